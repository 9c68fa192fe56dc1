// Livego is the go command for programs that fork with package live. It adds a few files to the
// standard library's packages as they are compiled; GOROOT is left as it is, and the build cache
// keeps both kinds of build apart.
//
//	livego build|test|run|vet|install|list ...   as go does, with all of its flags
//	livego env                                   the -toolexec flag, for a Makefile or a CI
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"forkshm.example/shm/internal/livepatch"
)

const usage = "usage: livego build|test|run|vet|install|list [go's flags and arguments], or livego env"

func main() {
	if err := run(os.Args[1:]); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "livego:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch args[0] {
	case "build", "test", "run", "vet", "install", "list":
		return runGo(args[0], args[1:])
	case "env":
		flag, err := toolexec()
		if err != nil {
			return err
		}
		// As one word for a shell, a Makefile and GOFLAGS.
		_, err = fmt.Println("'" + strings.ReplaceAll(flag, "'", `"`) + "'")
		return err
	case "toolexec":
		if len(args) < 2 {
			return errors.New("toolexec is for the go command to call")
		}
		return runTool(args[1], args[2:])
	}
	return fmt.Errorf("unknown command %q; %s", args[0], usage)
}

func toolexec() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(self, "'\"") {
		return "", fmt.Errorf("the go command cannot call livego at %s: a quote in the path", self)
	}
	return fmt.Sprintf("-toolexec='%s' toolexec", self), nil
}

// runGo runs the go command, once it is one whose runtime is known.
func runGo(command string, args []string) error {
	version := exec.Command("go", append(chdir(args), "env", "GOVERSION", "CGO_ENABLED", "GOOS")...)
	version.Stderr = os.Stderr
	out, err := version.Output()
	if err != nil {
		return err
	}
	env := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(env) != 3 {
		return fmt.Errorf("go env printed %q", out)
	}
	if _, err := livepatch.Known(env[0]); err != nil {
		return err
	}
	if env[1] != "1" || env[2] != "linux" {
		fmt.Fprintf(os.Stderr, "livego: with CGO_ENABLED=%s GOOS=%s live.Fork fails with ErrUnsupported: it forks in C, on Linux\n", env[1], env[2])
	}
	flag, err := toolexec()
	if err != nil {
		return err
	}
	// -C must stay first.
	c := chdir(args)
	return stdio(exec.Command("go", append(append([]string{command}, c...), append([]string{flag}, args[len(c):]...)...)...)).Run()
}

// chdir returns the -C flag with which args begin.
func chdir(args []string) []string {
	switch {
	case len(args) > 1 && (args[0] == "-C" || args[0] == "--C"):
		return args[:2]
	case len(args) > 0 && (strings.HasPrefix(args[0], "-C=") || strings.HasPrefix(args[0], "--C=")):
		return args[:1]
	}
	return nil
}

func stdio(cmd *exec.Cmd) *exec.Cmd {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// runTool runs one of the tools of the go command, compile with what is added to its package.
func runTool(tool string, args []string) error {
	if strings.TrimSuffix(filepath.Base(tool), ".exe") != "compile" {
		return stdio(exec.Command(tool, args...)).Run()
	}
	if len(args) == 1 && args[0] == "-V=full" {
		return markVersion(tool)
	}
	added, err := livepatch.For(value(args, "-p"), value(args, "-goversion"))
	if err != nil {
		return err
	}
	// Beside the output, in the build's own folder: its name is trimmed from what is compiled, and
	// the go command removes it.
	dir := filepath.Dir(value(args, "-o"))
	for name, text := range added {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return err
		}
		args = append(args, path)
	}
	return stdio(exec.Command(tool, args...)).Run()
}

// markVersion answers -V=full, from which the build cache takes what the compiler is.
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
