// The life of a mapping in Rust, by memmap2 and libc: what c/life.c does in C.
//
//	life anonymous private size rounds
//	life memfd shared size rounds
use memmap2::MmapMut;
use std::env;
use std::fs::File;
use std::os::unix::io::FromRawFd;
use std::time::Instant;

const STEPS: [&str; 7] = ["map", "touch", "fork", "child", "access", "grow", "unmap"];

fn faults() -> i64 {
    unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut u);
        u.ru_minflt + u.ru_majflt
    }
}

struct Life {
    memfd: bool,
    size: usize,
    page: usize,
    took: Vec<Vec<u128>>,
    faults: Vec<i64>,
}

impl Life {
    fn done(&mut self, step: &str, start: Instant, before: i64) {
        let i = STEPS.iter().position(|s| *s == step).unwrap();
        self.took[i].push(start.elapsed().as_nanos());
        self.faults[i] += faults() - before;
    }

    fn map(&self, length: usize) -> (MmapMut, Option<File>) {
        if !self.memfd {
            return (MmapMut::map_anon(length).unwrap(), None);
        }
        let fd = unsafe { libc::memfd_create(b"life\0".as_ptr().cast(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "memfd_create");
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(length as u64).unwrap();
        (unsafe { MmapMut::map_mut(&file).unwrap() }, Some(file))
    }

    fn live(&mut self) -> u64 {
        let (f, t) = (faults(), Instant::now());
        let (mut m, file) = self.map(self.size);
        self.done("map", t, f);
        let (f, t) = (faults(), Instant::now());
        for i in (0..self.size).step_by(self.page) {
            m[i] = 1;
        }
        self.done("touch", t, f);
        let (f, t) = (faults(), Instant::now());
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork");
        if pid == 0 {
            m[1] = 5;
            unsafe { libc::_exit(0) };
        }
        self.done("fork", t, f);
        let mut status = 0;
        unsafe { libc::waitpid(pid, &mut status, 0) };
        self.done("child", t, f);
        let mut sum = m[1] as u64 + status as u64;
        let (f, t) = (faults(), Instant::now());
        let n = self.size.min(65536) / 8;
        let words = unsafe { std::slice::from_raw_parts(m.as_ptr() as *const u64, n) };
        sum += words.iter().fold(0u64, |a, w| a.wrapping_add(*w)) & 0xff;
        self.done("access", t, f);
        let (f, t) = (faults(), Instant::now());
        let mut larger = match &file {
            Some(file) => {
                file.set_len(2 * self.size as u64).unwrap();
                drop(m); // the object keeps the bytes
                unsafe { MmapMut::map_mut(file).unwrap() }
            }
            None => {
                let mut larger = MmapMut::map_anon(2 * self.size).unwrap();
                larger[..self.size].copy_from_slice(&m);
                drop(m);
                larger
            }
        };
        self.done("grow", t, f);
        larger[2 * self.size - 1] = 2;
        sum += 2 * larger[2 * self.size - 1] as u64 + larger[self.size - self.page] as u64;
        let (f, t) = (faults(), Instant::now());
        drop(larger);
        drop(file);
        self.done("unmap", t, f);
        sum
    }
}

fn crash() -> &'static str {
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            (8 as *mut u8).write_volatile(1); // Rust's handler would let a raised signal go by
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(pid, &mut status, 0);
        if libc::WIFSIGNALED(status) { "the signal" } else { "nothing" }
    }
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let rounds: usize = args[4].parse().unwrap();
    let mut l = Life {
        memfd: args[1] == "memfd",
        size: args[3].parse().unwrap(),
        page: unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize,
        took: vec![vec![]; STEPS.len()],
        faults: vec![0; STEPS.len()],
    };
    l.live(); // the first one warms up, and is not counted
    l.took = vec![vec![]; STEPS.len()];
    l.faults = vec![0; STEPS.len()];
    let mut sum = 0;
    for _ in 0..rounds {
        sum += l.live();
    }
    println!("result {}", sum / rounds as u64);
    println!("note grow {}", if l.memfd { "maps anew" } else { "copies" });
    println!("note crash {}", crash());
    for (i, s) in STEPS.iter().enumerate() {
        l.took[i].sort();
        println!("{} {} {:.2}", s, l.took[i][rounds / 2], l.faults[i] as f64 / rounds as f64);
    }
}
