//go:build linux && cgo && !devzero

package main

import (
	"bytes"
	"flag"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

// The tests run livego as its users do, on a module of its own that forks.

var (
	livego string // its path
	root   string // of this module
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "livego")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		livego = filepath.Join(dir, "livego")
		flag.Parse()
		if testing.Short() { // no test is to use it
			return m.Run()
		}
		if out, err := exec.Command("go", "build", "-o", livego, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		if root, err = filepath.Abs("../.."); err != nil {
			panic(err)
		}
		os.Unsetenv("GOFLAGS") // what the tests of all packages run with is not what these test
		return m.Run()
	}())
}

const program = `package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"forkshm.example/shm/live"
)

func main() { fmt.Println(forks(), strings.Join(os.Args[1:], " ")) }

func forks() string {
	p, err := live.Go(func() int {
		done := make(chan bool)
		go func() { runtime.GC(); close(done) }()
		<-done
		return 7
	})
	if err != nil {
		return err.Error()
	}
	_, file, _, _ := runtime.Caller(0)
	err = p.Wait(context.Background())
	return fmt.Sprintln(strings.TrimPrefix(err.Error(), fmt.Sprintf("child %d: ", p.Pid())), file[:1])
}
`

const programTest = `package main

import (
	"strings"
	"testing"
)

func TestForks(t *testing.T) {
	if s := forks(); !strings.HasPrefix(s, "exit status 7") {
		t.Fatal(s)
	}
}
`

// module makes one that uses package live from its folder.
func module(t *testing.T) string {
	testenv.NeedTime(t)
	dir := t.TempDir()
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	xsys := regexp.MustCompile(`golang.org/x/sys v\S+`).Find(gomod)
	gosum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"go.mod": "module outside.example/program\n\ngo 1.24.0\n\nrequire " +
			"(\n\tforkshm.example/shm v0.0.0\n\t" + string(xsys) +
			" // indirect\n)\n\nreplace forkshm.example/shm => " + root + "\n",
		"go.sum":       string(gosum),
		"main.go":      program,
		"main_test.go": programTest,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// in runs a command in a folder, with an environment beside this process's, and
// returns all that it prints.
func in(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func good(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := in(dir, env, name, args...)
	require.NoError(t, err, "%s %q: %s", filepath.Base(name), args, out)
	return out
}

func refused(t *testing.T, dir string, env []string, want string, args ...string) {
	t.Helper()
	out, err := in(dir, env, livego, args...)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "livego %q: %s", args, out)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Contains(t, out, want)
}

func forked(t *testing.T, dir, program string) {
	t.Helper()
	assert.Contains(t, good(t, dir, nil, program), "exit status 7 /")
}

func TestLivegoBuildRunTestVetInstallList(t *testing.T) {
	dir := module(t)
	good(t, dir, nil, livego, "build", "-o", "program", ".")
	forked(t, dir, "./program")
	assert.Contains(t, good(t, dir, nil, livego, "run", ".", "-toolexec=the program's", "-C"),
		"exit status 7 /\n -toolexec=the program's -C\n")
	assert.Regexp(t, `(?m)^ok`, good(t, dir, nil, livego, "test", "./..."))
	good(t, dir, nil, livego, "vet", "./...")
	bin := t.TempDir()
	good(t, dir, []string{"GOBIN=" + bin}, livego, "install", ".")
	forked(t, dir, filepath.Join(bin, "program"))
	assert.Equal(t, "outside.example/program\n", good(t, dir, nil, livego, "list", "./..."))

	patched, err := filepath.Glob(filepath.Join(build.Default.GOROOT, "src/*/*z_live_*"))
	require.NoError(t, err)
	assert.Empty(t, patched, "GOROOT is left alone")
}

func TestLivegoFlags(t *testing.T) {
	for _, flags := range [][]string{
		{"-race"}, {"-cover"}, {"-trimpath"}, {"-gcflags=all=-N -l"},
		{"-tags", "x", "-ldflags", "-s -w"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			dir := module(t)
			good(t, dir, nil, livego,
				append(append([]string{"build"}, flags...), "-o", "program", ".")...)
			covered := t.TempDir()
			out := good(t, dir, []string{"GOCOVERDIR=" + covered}, "./program")
			if flags[0] == "-cover" {
				counters, err := filepath.Glob(filepath.Join(covered, "covcounters.*"))
				require.NoError(t, err)
				assert.Len(t, counters, 2, "the parent's and the child's")
			}
			if flags[0] == "-trimpath" {
				assert.Contains(t, out, "exit status 7 o",
					"the path of the module in place of the folder's")
			} else {
				assert.Contains(t, out, "exit status 7 /")
			}
		})
	}
	dir := module(t)
	assert.Regexp(t, `coverage: [1-9]`, good(t, dir, nil, livego, "test", "-cover", "."))
}

func TestLivegoInAnotherFolder(t *testing.T) {
	dir := module(t)
	for _, args := range [][]string{{"build", "-C", dir, "-o", "program", "."},
		{"-C", dir, "build", "-o", "program", "."}, {"build", "-C=" + dir, "-o", "program", "."}} {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "program")))
		good(t, "/", nil, livego, args...)
		forked(t, dir, "./program")
	}
}

// A module can have livego as one of its tools.
func TestLivegoAsAToolOfAModule(t *testing.T) {
	dir := module(t)
	good(t, dir, nil, "go", "mod", "edit", "-tool=forkshm.example/shm/cmd/livego")
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	assert.Contains(t, string(gomod), "tool forkshm.example/shm/cmd/livego")
	good(t, dir, nil, "go", "tool", "livego", "build", "-o", "program", ".")
	forked(t, dir, "./program")
	assert.Regexp(t, `(?m)^ok`, good(t, dir, nil, "go", "tool", "livego", "test", "-count=1", "."))
	out, err := in(dir, nil, "go", "tool", "livego", "bild")
	assert.Error(t, err)
	assert.Contains(t, out, `unknown command "bild"`)
}

func TestLivegoVendoring(t *testing.T) {
	dir := module(t)
	good(t, dir, nil, "go", "mod", "vendor")
	good(t, dir, nil, livego, "build", "-mod=vendor", "-o", "program", ".")
	forked(t, dir, "./program")
}

func TestLivegoWorkspace(t *testing.T) {
	dir := module(t)
	// It requires nothing: the workspace has it.
	require.NoError(t,
		os.WriteFile(filepath.Join(dir, "go.mod"),
			[]byte("module outside.example/program\n\ngo 1.24.0\n"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(dir, "go.sum")))
	require.NoError(t,
		os.WriteFile(filepath.Join(dir, "go.work"),
			[]byte("go 1.24.0\n\nuse (\n\t.\n\t"+root+"\n)\n"), 0o644))
	good(t, dir, nil, livego, "build", "-o", "program", ".")
	forked(t, dir, "./program")
}

// Builds of both kinds are cached, each as its own: the second of each compiles
// nothing.
func TestLivegoBuildsAreCached(t *testing.T) {
	dir := module(t)
	for range 2 {
		for _, kind := range []struct{ command, prints string }{{livego, "exit status 7 /"},
			{"go", "plain go"}} {
			good(t, dir, nil, kind.command, "build", "-o", "program", ".")
			again := good(t, dir, nil, kind.command, "build", "-x", "-o", "again", ".")
			assert.NotRegexp(t, `(?m)^.*/compile `, again)
			out := good(t, dir, nil, "./program")
			if kind.command == "go" {
				assert.Contains(t, out, "build it by livego")
			} else {
				assert.Contains(t, out, kind.prints)
			}
		}
	}
}

func TestLivegoEnvIsForGoItself(t *testing.T) {
	dir := module(t)
	flag := strings.TrimSuffix(good(t, dir, nil, livego, "env"), "\n")
	assert.Equal(t, "-toolexec="+livego, flag)
	good(t, dir, nil, "go", "build", flag, "-o", "program", ".")
	forked(t, dir, "./program")
	goflags := []string{"GOFLAGS=" + flag}
	assert.Regexp(t, `(?m)^ok`, good(t, dir, goflags, "go", "test", "-count=1", "."))
	assert.Regexp(t, `(?m)^ok`, good(t, dir, goflags, livego, "test", "-count=1", "."))
}

// A folder may have a blank in its name: build is for it, but env's word cannot
// be.
func TestLivegoWhereAFolderHasABlank(t *testing.T) {
	dir := module(t)
	blank := filepath.Join(t.TempDir(), "a b")
	require.NoError(t, os.Mkdir(blank, 0o755))
	self, err := os.ReadFile(livego)
	require.NoError(t, err)
	there := filepath.Join(blank, "livego")
	require.NoError(t, os.WriteFile(there, self, 0o755))
	good(t, dir, nil, there, "build", "-o", "program", ".")
	forked(t, dir, "./program")
	out, err := in(dir, nil, there, "env")
	assert.Error(t, err)
	assert.Contains(t, out, "one word")
}

func TestLivegoRefusesAnotherToolexec(t *testing.T) {
	dir := module(t)
	for _, args := range [][]string{
		{"build", "-toolexec=x", "."}, {"build", "--toolexec", "x", "."},
		{"test", ".", "-toolexec=x"},
		{"run", "-toolexec=x", "."}, {"run", "-tags", "x", "-toolexec=x", "."},
	} {
		refused(t, dir, nil, "-toolexec", args...)
	}
	refused(t, dir, []string{"GOFLAGS=-v -toolexec=x"}, "GOFLAGS has a -toolexec=x", "build", ".")
	assert.Regexp(t, `(?m)^ok`,
		good(t, dir, nil, livego, "test", ".", "-args", "--", "-toolexec=x"), "that is the test's")
}

func TestLivegoRefusesAnUnknownGo(t *testing.T) {
	dir := module(t)
	bin := t.TempDir()
	require.NoError(t,
		os.WriteFile(filepath.Join(bin, "go"),
			[]byte("#!/bin/sh\nprintf 'go1.99.1\\n1\\nlinux\\n\\n'\n"), 0o755))
	refused(t, dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH")},
		"the runtime of go1.99.1 is not known: livego knows those of go1.24", "build", ".")

	compile := filepath.Join(bin, "compile")
	require.NoError(t,
		os.WriteFile(compile, []byte("#!/bin/sh\necho compile version go1.99.1\n"), 0o755))
	refused(t, dir, []string{"GOOS=linux"}, "the runtime of go1.99.1 is not known", compile,
		"-V=full")
	refused(t, dir, []string{"GOOS=linux"}, "the runtime of go1.99.1 is not known", compile, "-p",
		"runtime", "-goversion", "go1.99.1")
}

// A release of a known version, but with something that the patch has not been
// checked against.
func TestLivegoRefusesARuntimeThatIsNew(t *testing.T) {
	testenv.NeedTime(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "new.go")
	require.NoError(t, os.WriteFile(file, []byte("package runtime\nvar parkedOn mutex\nfunc f() "+
		"{ lock(&parkedOn) }\n"), 0o644))
	refused(t, dir, []string{"GOOS=linux"},
		"var parkedOn mutex. Build with a Go that this livego knows, by GOTOOLCHAIN=",
		"/no/compile", "-p", "runtime", "-goversion", "go1.26.99", "-o", filepath.Join(dir, "out"),
		file)
	test := filepath.Join(dir, "new_test.go")
	require.NoError(t, os.Rename(file, test))
	// The variables of a package's tests are not checked, and the next check fails.
	refused(t, dir, []string{"GOOS=linux"}, "has no file",
		"/no/compile", "-p", "runtime", "-goversion", "go1.26.99", "-o", filepath.Join(dir, "out"),
		test)
}

func TestLivegoWithoutCgoAndForOtherSystems(t *testing.T) {
	dir := module(t)
	assert.Contains(t,
		good(t, dir, []string{"CGO_ENABLED=0"}, livego, "build", "-o", "program", "."),
		"live.Fork fails with errors.ErrUnsupported")
	assert.Contains(t, good(t, dir, nil, "./program"), "unsupported")
	env := []string{"GOOS=darwin", "CGO_ENABLED=0"}
	assert.Contains(t, good(t, dir, env, livego, "build", "-o", "program", "."), "as by plain go")
	good(t, dir, env, "go", "build", "-toolexec="+livego, "-o", "program", ".")
}

// What go says and exits with is what livego does.
func TestLivegoExitsAsGoDoes(t *testing.T) {
	dir := module(t)
	require.NoError(t,
		os.WriteFile(filepath.Join(dir, "broken_test.go"),
			[]byte("package main\nvar _ int = \"\"\n"), 0o644))
	for _, args := range [][]string{{"vet", "."}, {"test", "."}, {"build", "-nosuchflag"},
		{"list", "./nosuch"}} {
		var plains, our *exec.ExitError
		plain, err := in(dir, nil, "go", args...)
		require.ErrorAs(t, err, &plains)
		ours, err := in(dir, nil, livego, args...)
		require.ErrorAs(t, err, &our, "%q: %s", args, ours)
		assert.Equal(t, plains.ExitCode(), our.ExitCode(), "%q: %s", args, ours)
		assert.Equal(t, lines(plain), lines(ours), "%q", args)
	}
}

// lines are without what a build's times and folders make differ.
func lines(out string) string {
	return regexp.MustCompile(`\(?[0-9.]+m?s\)?|`+regexp.QuoteMeta(os.TempDir())+
		`/\S+`).ReplaceAllString(out, "")
}

func TestLivegoHelp(t *testing.T) {
	testenv.NeedTime(t)
	var out bytes.Buffer
	for _, word := range []string{"help", "-h", "--help"} {
		out.Reset()
		cmd := exec.Command(livego, word)
		cmd.Stdout = &out
		require.NoError(t, cmd.Run())
		assert.Contains(t, out.String(), "usage: livego build|test|run")
	}
	refused(t, ".", nil, `unknown command "bild"`, "bild")
	refused(t, ".", nil, "no command")
	refused(t, ".", nil, "no command", "-C", "/")
}
