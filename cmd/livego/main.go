// Livego is the go command for programs that fork with package live. It adds a
// few files to the standard library's packages as they are compiled, and
// changes some of their lines; GOROOT is left as it is, and the build cache
// keeps both kinds of build apart.
//
//	livego build|test|run|vet|install|list ...   as go does, with all of its flags
//	livego env                                   the -toolexec flag, for a Makefile, a CI, or GOFLAGS
//	livego help
//
// The go command in turn runs it as -toolexec. A -toolexec of one's own cannot
// be had beside it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"forkshm.example/shm/internal/livepatch"
)

const usage = `usage: livego build|test|run|vet|install|list [go's flags and arguments]
       livego env     prints the -toolexec flag by which the go command does the same
`

var commands = []string{"build", "test", "run", "vet", "install", "list"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			os.Exit(exit.ExitCode()) // go has said why
		}
		fmt.Fprintln(os.Stderr, "livego:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && strings.ContainsRune(args[0], filepath.Separator) {
		return runTool(args[0], args[1:]) // by the go command
	}
	chdir, args := cutChdir(args)
	switch {
	case len(args) == 0:
		return errors.New("no command\n" + strings.TrimSuffix(usage, "\n"))
	case args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help":
		_, err := fmt.Print(usage)
		return err
	case args[0] == "env":
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if strings.ContainsAny(self, " \t\n'\"") {
			return fmt.Errorf("a blank or a quote in %s, where livego is: its path is to be one "+
				"word in a Makefile and in GOFLAGS", self)
		}
		_, err = fmt.Println("-toolexec=" + self)
		return err
	case slices.Contains(commands, args[0]):
		if chdir == nil {
			chdir, args = cutChdirAfter(args)
		}
		return runGo(chdir, args[0], args[1:])
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}

// cutChdir cuts off the -C flag, which comes first.
func cutChdir(args []string) (chdir, rest []string) {
	switch {
	case len(args) > 1 && (args[0] == "-C" || args[0] == "--C"):
		return args[:2], args[2:]
	case len(args) > 0 && (strings.HasPrefix(args[0], "-C=") || strings.HasPrefix(args[0], "--C=")):
		return args[:1], args[1:]
	}
	return nil, args
}

func cutChdirAfter(args []string) (chdir, rest []string) {
	chdir, rest = cutChdir(args[1:])
	return chdir, append([]string{args[0]}, rest...)
}

// runGo becomes the go command, once that is one whose runtime is known.
func runGo(chdir []string, command string, args []string) error {
	asked := exec.Command("go",
		slices.Concat([]string{"env"}, chdir,
			[]string{"GOVERSION", "CGO_ENABLED", "GOOS", "GOFLAGS"})...)
	asked.Stderr = os.Stderr
	out, err := asked.Output()
	if err != nil {
		return err
	}
	env := strings.SplitN(strings.TrimSuffix(string(out), "\n"), "\n", 4)
	if len(env) != 4 {
		return fmt.Errorf("go env printed %q", out)
	}
	version, cgo, goos, goflags := env[0], env[1], env[2], env[3]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, flag := range strings.Fields(goflags) {
		if flag = strings.Trim(flag, `'"`); isToolexec(flag) && !strings.HasSuffix(flag, "="+self) {
			return fmt.Errorf("GOFLAGS has a %s: the go command runs one such, which is to be "+
				"livego", flag)
		}
	}
	if flag := toolexecIn(command, args); flag != "" {
		return fmt.Errorf("%s: the go command runs one such, which is to be livego", flag)
	}
	if _, err := livepatch.Known(version); err != nil {
		return err
	}
	flags := []string{"-toolexec=" + quote(self)}
	switch {
	case goos != "linux":
		fmt.Fprintf(os.Stderr, "livego: for GOOS=%s as by plain go: live.Fork is for Linux\n", goos)
		flags = nil
	case cgo != "1":
		fmt.Fprintf(os.Stderr, "livego: with CGO_ENABLED=%s live.Fork fails with "+
			"errors.ErrUnsupported: it forks in C\n", cgo)
	}
	path, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	return os.NewSyscallError("exec",
		syscall.Exec(path, slices.Concat([]string{"go", command}, chdir, flags, args),
			os.Environ()))
}

// quote is for a list of words as the go command splits it.
func quote(word string) string {
	switch {
	case !strings.ContainsAny(word, " \t\n"):
		return word
	case strings.Contains(word, "'"):
		return `"` + word + `"`
	}
	return "'" + word + "'"
}

func isToolexec(flag string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	return strings.HasPrefix(flag, "-") && name == "toolexec"
}

// valued are the flags of go run that have their value in a word of its own.
var valued = strings.Fields("C p asmflags buildmode compiler covermode coverpkg exec gccgoflags " +
	"gcflags installsuffix " +
	"ldflags mod modfile overlay pgo pkgdir tags")

// toolexecIn returns the -toolexec flag among a command's arguments, but not
// among those of the program that it runs.
func toolexecIn(command string, args []string) string {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case isToolexec(arg):
			return arg
		case command == "test" && strings.TrimLeft(arg, "-") == "args" && arg[0] == '-':
			return ""
		case command == "run" && !strings.HasPrefix(arg, "-"):
			return ""
		case command == "run" && slices.Contains(valued, strings.TrimLeft(arg, "-")):
			i++
		}
	}
	return ""
}

// runTool runs one of the tools of the go command: compile with what is added
// to its package.
func runTool(tool string, args []string) error {
	if strings.TrimSuffix(filepath.Base(tool), ".exe") == "compile" &&
		os.Getenv("GOOS") == "linux" {
		if len(args) == 1 && args[0] == "-V=full" {
			return markVersion(tool)
		}
		var err error
		if args, err = addFiles(args); err != nil {
			return err
		}
	}
	return os.NewSyscallError("exec",
		syscall.Exec(tool, append([]string{tool}, args...), os.Environ()))
}

// addFiles returns the compiler's arguments with what is added to its package.
// The files are written beside the output, in the build's own folder: its name
// is trimmed from what is compiled, and the go command removes it.
func addFiles(args []string) ([]string, error) {
	pkg, dir := value(args, "-p"), filepath.Dir(value(args, "-o"))
	added, err := livepatch.For(pkg, value(args, "-goversion"), slices.Contains(args, "-race"))
	if err != nil {
		return nil, err
	}
	if pkg == "runtime" {
		if err := livepatch.CheckRuntime(value(args, "-goversion"), goFiles(args)); err != nil {
			return nil, err
		}
	}
	if err := editSources(pkg, value(args, "-goversion"), dir, args); err != nil {
		return nil, fmt.Errorf("%w. %s", err, livepatch.WayOut)
	}
	for _, file := range added {
		path := filepath.Join(dir, file.Name)
		if err := os.WriteFile(path, file.Text, 0o666); err != nil {
			return nil, err
		}
		args = append(args, path)
	}
	return args, nil
}

// goFiles are those among a compiler's arguments, without those of a package's
// tests.
func goFiles(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		return filepath.Ext(arg) != ".go" || strings.HasSuffix(arg, "_test.go")
	})
}

// editSources writes those files among a compiler's arguments that the patch
// changes to dir, changed, and has the compiler read them there.
func editSources(pkg, version, dir string, args []string) error {
	missing := livepatch.EditsOf(pkg, version)
	if len(missing) == 0 {
		return nil
	}
	for i, arg := range args {
		name := livepatch.BaseName(arg)
		if !missing[name] {
			continue
		}
		delete(missing, name)
		path, err := filepath.Abs(arg)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if text, err = livepatch.Apply(pkg, path, text); err != nil {
			return err
		}
		args[i] = filepath.Join(dir, "z_live_edited_"+name)
		if err := os.WriteFile(args[i], text, 0o666); err != nil {
			return err
		}
	}
	for name := range missing {
		return fmt.Errorf("package %s has no file %s: the patch was not checked against this "+
			"version", pkg, name)
	}
	return nil
}

// markVersion answers -V=full, from which the build cache takes what the
// compiler is.
func markVersion(tool string) error {
	cmd := exec.Command(tool, "-V=full")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	line := string(bytes.TrimSpace(out)) // compile version go1.26.0 ...
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return fmt.Errorf("%s -V=full printed %q", tool, line)
	}
	if _, err := livepatch.Known(fields[2]); err != nil {
		return err
	}
	_, err = fmt.Println(line, "live", livepatch.Hash())
	return err
}

func value(args []string, flag string) string {
	for i, arg := range args {
		if arg == flag && i+1 < len(args) {
			return args[i+1]
		}
		if v, ok := strings.CutPrefix(arg, flag+"="); ok {
			return v
		}
	}
	return ""
}
