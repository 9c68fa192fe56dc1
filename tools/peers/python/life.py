# The life of a mapping in Python, by mmap and os.fork: what c/life.c does in C.
#
#	python3 life.py anonymous|memfd private|shared size rounds
import mmap
import os
import resource
import signal
import sys
import time

technique, sharing, size, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
page = mmap.PAGESIZE
flags = mmap.MAP_SHARED if sharing == "shared" else mmap.MAP_PRIVATE
steps = ["map", "touch", "fork", "child", "access", "grow", "unmap"]
took = {s: [] for s in steps}
faults = {s: 0 for s in steps}


def count():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_minflt + u.ru_majflt


def done(step, start, before):
    took[step].append(time.monotonic_ns() - start)
    faults[step] += count() - before


def new(length):
    if technique == "memfd":
        fd = os.memfd_create("life")
        os.ftruncate(fd, length)
        m = mmap.mmap(fd, length, flags)
        os.close(fd)  # mmap keeps its own
        return m
    return mmap.mmap(-1, length, flags | mmap.MAP_ANONYMOUS)


def life():
    total = 0
    f, t = count(), time.monotonic_ns()
    m = new(size)
    done("map", t, f)
    f, t = count(), time.monotonic_ns()
    m[::page] = b"\x01" * (size // page)
    done("touch", t, f)
    f, t = count(), time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        m[1] = 5
        os._exit(0)
    done("fork", t, f)
    os.waitpid(pid, 0)
    done("child", t, f)
    total += m[1]
    f, t = count(), time.monotonic_ns()
    total += sum(memoryview(m)[:min(size, 65536)].cast("Q")) & 0xFF
    done("access", t, f)
    f, t = count(), time.monotonic_ns()
    if sharing == "private" and technique == "anonymous":
        larger = new(2 * size)  # resize of a private mapping is refused
        larger[:size] = m[:size]
        m.close()
        m = larger
    elif technique == "memfd" and sharing == "shared":
        m.resize(2 * size)
    else:
        larger = new(2 * size)
        larger[:size] = m[:size]
        m.close()
        m = larger
    done("grow", t, f)
    m[2 * size - 1] = 2
    total += m[2 * size - 1] + m[size - page]
    total += m[2 * size - 1]
    f, t = count(), time.monotonic_ns()
    m.close()
    done("unmap", t, f)
    return total


def crash():
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return "the signal" if os.WIFSIGNALED(status) else "nothing"


life()
for s in steps:
    took[s].clear()
    faults[s] = 0
total = sum(life() for _ in range(rounds))
print("result", total // rounds)
print("note grow", "moves pages" if technique == "memfd" and sharing == "shared" else "copies")
print("note crash", crash())
for s in steps:
    took[s].sort()
    print(s, took[s][rounds // 2], "%.2f" % (faults[s] / rounds))
