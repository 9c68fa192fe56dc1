//go:build linux

// Command stress runs the tests of this module for a given time, and keeps the
// machine busy meanwhile. Each run has some tests of a suite, in random order,
// in one of several settings. Stress prints the output of each run that fails,
// and a command that repeats the run.
//
// Stress prints a seed. The seed decides which tests run together, and in which
// order. The machine decides how many runs there are.
//
// The time begins once the tests are built. Stress ends at most a minute after
// the given time. Stress fails if no run has ended by then, as nothing was
// tested. It leaves no process and no file.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	limit := flag.Duration("time", 10*time.Minute, "how long to run tests, once they are built")
	load := flag.Int("load", 4, "how many busy loops there are beside them")
	atOnce := flag.Int("at-once", 2, "how many suites run at once")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()),
		"which tests run together, and in which order")
	busy := flag.Bool("busy", false, "be a busy loop, until the standard input ends")
	flag.Parse()
	if *busy {
		go func() {
			_, _ = os.Stdin.Read(make([]byte, 1))
			os.Exit(0)
		}()
		//lint:ignore SA5002 the loop is the load
		for {
		}
	}
	interrupted, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM,
		syscall.SIGHUP)
	defer stop()
	fmt.Printf("to run the same tests again: -seed %d\n", *seed)
	failed, err := stress(interrupted, *limit, *load, *atOnce, *seed)
	if err != nil {
		log.Print(err)
	}
	if failed > 0 || err != nil {
		os.Exit(1)
	}
}

func stress(interrupted context.Context, limit time.Duration, load, atOnce int,
	seed uint64) (failed int, err error) {
	scratch, err := os.MkdirTemp("", "shm-stress-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	suites, err := build(interrupted, scratch)
	if err != nil {
		return 0, err
	}
	settings, remove := settings()
	defer remove()
	unload, err := keepBusy(load)
	if err != nil {
		return 0, err
	}
	defer unload()

	s := &session{scratch: scratch, suites: suites, settings: settings,
		random: rand.New(rand.NewPCG(seed, 0)), results: map[key]*result{}}
	s.run(interrupted, time.Now().Add(limit), atOnce)
	passed, failed := s.summary()
	if err := interrupted.Err(); err != nil {
		return failed, err
	}
	if passed+failed == 0 {
		return 0, fmt.Errorf("no run ended within %v: nothing was tested", limit+rest)
	}
	return failed, nil
}

// keepBusy starts busy loops. Each ends when unload is called, and when this
// process ends in any other way.
func keepBusy(n int) (unload func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var loops []*exec.Cmd
	unload = func() {
		w.Close()
		for _, loop := range loops {
			_ = loop.Wait()
		}
	}
	for range n {
		loop := exec.Command("/proc/self/exe", "-busy")
		loop.Stdin = r
		loop.Env = append(os.Environ(), "GOMAXPROCS=2") // one loops, one waits for the end
		if err := loop.Start(); err != nil {
			unload()
			return nil, err
		}
		loops = append(loops, loop)
	}
	return unload, nil
}

type key struct{ suite, setting string }

type result struct{ passed, failed, unfinished int }

// session is what all runs have in common.
type session struct {
	scratch  string
	suites   []*suite
	settings []setting

	mu      sync.Mutex
	random  *rand.Rand // run n takes its values before run n+1 does
	runs    int
	results map[key]*result
}

// run has so many runs at once until the time is over.
func (s *session) run(interrupted context.Context, over time.Time, atOnce int) {
	ctx, cancel := context.WithDeadline(interrupted, over.Add(rest))
	defer cancel()
	var all sync.WaitGroup
	for range atOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			for ctx.Err() == nil && time.Now().Before(over) {
				s.one(ctx)
			}
		}()
	}
	all.Wait()
}

// one runs the next tests of the next suite. Each suite comes with each setting
// in turn.
func (s *session) one(ctx context.Context) {
	s.mu.Lock()
	n := s.runs
	s.runs++
	suite := s.suites[n%len(s.suites)]
	round := n / len(s.suites)
	setting := s.settings[(round+n%len(s.suites))%len(s.settings)]
	tests := suite.next(s.random)
	shuffle := s.random.Int64N(1 << 31)
	s.mu.Unlock()

	began := time.Now()
	output, err := s.test(ctx, n, suite, setting, tests, shuffle)
	took := time.Since(began).Round(100 * time.Millisecond)

	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{suite.name, setting.name}
	if s.results[k] == nil {
		s.results[k] = new(result)
	}
	switch {
	case err == nil:
		s.results[k].passed++
		fmt.Printf("ok    %-14s %-14s %8v\n", suite.name, setting.name, took)
	case ctx.Err() != nil:
		s.results[k].unfinished++
		fmt.Printf("ended %-14s %-14s %8v, as the time is over: %s\n", suite.name, setting.name,
			took, tests)
	default:
		s.results[k].failed++
		fmt.Printf("FAIL  %-14s %-14s %8v: %v\n%s\n\nto repeat it, beside a load: %s\n\n",
			suite.name, setting.name, took, err, output, suite.repeat(setting, tests, shuffle))
	}
}

// test runs some tests of a suite, and looks for what they leave behind.
func (s *session) test(ctx context.Context, n int, suite *suite, setting setting, tests string,
	shuffle int64) (output []byte, err error) {
	tmp := filepath.Join(s.scratch, fmt.Sprint("run", n))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	args := append([]string{suite.program, "-test.run=" + tests, "-test.count=1",
		"-test.timeout=30m",
		fmt.Sprint("-test.shuffle=", shuffle)}, setting.args...)
	args = append(append(setting.by[:len(setting.by):len(setting.by)], args...), suite.args...)
	mark := fmt.Sprintf("SHM_STRESS_RUN=%d.%d", os.Getpid(), n)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = suite.dir
	cmd.Env = append(append(os.Environ(), setting.env...), "TMPDIR="+tmp, mark)
	cmd.WaitDelay = rest
	output, err = cmd.CombinedOutput()

	left := leftProcesses(mark, err != nil)
	if files, _ := os.ReadDir(tmp); err == nil && len(files) > 0 {
		err = fmt.Errorf("it left files in TMPDIR: %v", files)
	}
	if err == nil && left != "" {
		err = fmt.Errorf("it left processes: %s", left)
	}
	return output, err
}

// leftProcesses kills the processes whose environment has the mark, and returns
// their names. Unless it is to do so at once, it waits for them to end by
// themselves.
func leftProcesses(mark string, atOnce bool) string {
	patience := time.Now().Add(rest / 2)
	for {
		var names []string
		all, _ := filepath.Glob("/proc/[0-9]*/environ")
		kill := atOnce || time.Now().After(patience)
		for _, file := range all {
			if environ, _ := os.ReadFile(file); !strings.Contains(string(environ)+"\x00",
				mark+"\x00") {
				continue
			}
			var pid int
			_, _ = fmt.Sscanf(file, "/proc/%d/", &pid)
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			names = append(names, fmt.Sprintf("%d %q", pid, cmdline))
			if kill {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if len(names) == 0 || kill {
			return strings.Join(names, ", ")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// summary prints how often each suite passed and failed in each setting, and
// returns how many runs passed and failed.
func (s *session) summary() (passed, failed int) {
	unfinished := 0
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nsuite\tsetting\truns\tpassed\tfailed")
	for _, suite := range s.suites {
		for _, setting := range s.settings {
			if r := s.results[key{suite.name, setting.name}]; r != nil {
				fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\n", suite.name, setting.name,
					r.passed+r.failed, r.passed, r.failed)
				passed += r.passed
				failed += r.failed
				unfinished += r.unfinished
			}
		}
	}
	_ = table.Flush()
	if unfinished > 0 {
		fmt.Printf("%d runs had not ended when the time was over\n", unfinished)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return passed, failed
}
