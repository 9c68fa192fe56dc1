// Livego is the go command for programs that fork with package live. When the
// go command compiles packages of the standard library, livego adds files to
// some of them, and changes some lines. GOROOT is left as it is. The build
// cache keeps builds by go and by livego apart.
//
//	livego build|test|run|vet|install|list ...
//
// does what go does, with all of its flags.
//
//	livego env
//
// prints the -toolexec flag by which go does the same: for a Makefile, a CI, or
// GOFLAGS.
//
// Livego is the -toolexec program of the go command. So a build by livego
// cannot have another -toolexec program.
package main

import (
	"bytes"
	"cmp"
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
			os.Exit(exit.ExitCode()) // the go command has printed why
		}
		fmt.Fprintln(os.Stderr, "livego:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && strings.ContainsRune(args[0], filepath.Separator) {
		return runTool(args[0], args[1:]) // the go command calls
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
			return fmt.Errorf("livego is at %q: in a Makefile and in GOFLAGS the path must be one "+
				"word, without blanks and quotes", self)
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

// cutChdir splits the -C flag, which comes first, from the other arguments.
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

// runGo replaces this process by the go command, with livego as its -toolexec
// program.
func runGo(chdir []string, command string, args []string) error {
	env, err := goEnv(chdir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if flag := cmp.Or(otherToolexec(env.goflags, self), toolexecIn(command, args)); flag != "" {
		return fmt.Errorf("%s: the go command runs one -toolexec program, which must be livego",
			flag)
	}
	if _, err := livepatch.Known(env.version); err != nil {
		return err
	}
	flags := []string{"-toolexec=" + quote(self)}
	switch {
	case env.goos != "linux":
		fmt.Fprintf(os.Stderr, "livego: live.Fork needs Linux: GOOS=%s is built as by plain go\n",
			env.goos)
		flags = nil
	case env.cgo != "1":
		fmt.Fprintf(os.Stderr, "livego: CGO_ENABLED is %s: live.Fork fails with "+
			"errors.ErrUnsupported, as it forks in C\n", env.cgo)
	}
	path, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	words := slices.Concat([]string{"go", command}, chdir, flags, args)
	return os.NewSyscallError("exec", syscall.Exec(path, words, os.Environ()))
}

// settings are what go env prints.
type settings struct{ version, cgo, goos, goflags string }

func goEnv(chdir []string) (settings, error) {
	names := []string{"GOVERSION", "CGO_ENABLED", "GOOS", "GOFLAGS"}
	cmd := exec.Command("go", slices.Concat([]string{"env"}, chdir, names)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return settings{}, err
	}
	lines := strings.SplitN(strings.TrimSuffix(string(out), "\n"), "\n", len(names))
	if len(lines) != len(names) {
		return settings{}, fmt.Errorf("go env printed %q", out)
	}
	return settings{lines[0], lines[1], lines[2], lines[3]}, nil
}

// otherToolexec returns the -toolexec flag in GOFLAGS, unless its program is
// livego.
func otherToolexec(goflags, self string) string {
	for _, flag := range strings.Fields(goflags) {
		flag = strings.Trim(flag, `'"`)
		if isToolexec(flag) && !strings.HasSuffix(flag, "="+self) {
			return "GOFLAGS has a " + flag
		}
	}
	return ""
}

// quote quotes a word for a list that the go command splits into words.
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

// valued are the flags of go run that can have their value in the next word.
var valued = strings.Fields("C p asmflags buildmode compiler covermode coverpkg exec gccgoflags " +
	"gcflags installsuffix ldflags mod modfile overlay pgo pkgdir tags")

// toolexecIn returns the -toolexec flag among a command's arguments. It ignores
// the arguments of the program that the command runs.
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

// runTool replaces this process by a tool of the go command. The compiler also
// gets the files that livego adds to the package.
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

// addFiles returns the compiler's arguments, with the files that livego adds to
// the package. addFiles writes the files beside the compiler's output, in the
// build's temporary folder. The go command trims that folder's name from what
// is compiled, and removes the folder.
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

// goFiles returns the Go files among a compiler's arguments, without those of a
// package's tests.
func goFiles(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		return filepath.Ext(arg) != ".go" || strings.HasSuffix(arg, "_test.go")
	})
}

// editSources replaces files among a compiler's arguments by edited copies in
// dir, if the patch has edits for them.
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
			"Go version", pkg, name)
	}
	return nil
}

// markVersion answers -V=full. The build cache identifies the compiler by the
// answer, so markVersion adds the hash of the patch.
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
