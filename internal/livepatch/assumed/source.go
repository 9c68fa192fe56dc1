package assumed

import (
	"bytes"
	"errors"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// processors are the processors whose files are read. A build has one of them.
var processors = []string{"386", "amd64", "arm", "arm64", "riscv64"}

var otherSystems = strings.Fields("aix android darwin dragonfly freebsd hurd illumos ios js nacl " +
	"netbsd openbsd plan9 " +
	"solaris wasip1 windows zos")

var otherProcessors = strings.Fields("amd64p32 armbe arm64be loong64 mips mipsle mips64 mips64le " +
	"mips64p32 " +
	"mips64p32le ppc ppc64 ppc64le riscv s390 s390x sparc sparc64 wasm")

// Folder parses the Go files of a package's folder that some build for Linux
// compiles, without tests.
func Folder(dir string) ([]*ast.File, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	return Files(slices.DeleteFunc(names, func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || !isForLinux(filepath.Base(name))
	}))
}

// Files parses Go files. It leaves out those whose build constraint holds in no
// build for Linux. If a file has syntax that this program's parser does not
// know, such as that of a later Go, Files returns an error and what it could
// parse.
func Files(names []string) (parsed []*ast.File, syntax error) {
	fset := token.NewFileSet()
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if !constraintCanHold(text) {
			continue
		}
		file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		syntax = errors.Join(syntax, err)
		parsed = append(parsed, file)
	}
	return parsed, syntax
}

// isForLinux reports whether the end of a file's name allows Linux, as that of
// os_linux_arm64.go does.
func isForLinux(name string) bool {
	parts := strings.Split(strings.TrimSuffix(name, ".go"), "_")[1:]
	return !slices.ContainsFunc(parts[max(0, len(parts)-2):], func(part string) bool {
		return slices.Contains(otherSystems, part) || slices.Contains(otherProcessors, part)
	})
}

// constraintCanHold reports whether a file's build constraint holds in some
// build for Linux. It tries each processor with all combinations of the other
// tags.
func constraintCanHold(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("package ")) {
			break
		}
		if !constraint.IsGoBuild(string(line)) {
			continue
		}
		expr, err := constraint.Parse(strings.TrimSpace(string(line)))
		if err != nil {
			return true // the compiler reports the error
		}
		tags := freeTags(expr)
		for n := range len(processors) << len(tags) {
			if expr.Eval(func(tag string) bool {
				i := slices.Index(tags, tag)
				return tag == processors[n>>len(tags)] || tag == "linux" || tag == "unix" ||
					tag == "gc" || i >= 0 && n>>i&1 == 1
			}) {
				return true
			}
		}
		return false
	}
	return true
}

// freeTags returns the tags of an expression that some builds for Linux have
// and others do not have.
func freeTags(expr constraint.Expr) (tags []string) {
	switch x := expr.(type) {
	case *constraint.AndExpr:
		return append(freeTags(x.X), freeTags(x.Y)...)
	case *constraint.OrExpr:
		return append(freeTags(x.X), freeTags(x.Y)...)
	case *constraint.NotExpr:
		return freeTags(x.X)
	case *constraint.TagExpr:
		set := slices.Concat(otherSystems, otherProcessors, processors,
			[]string{"linux", "unix", "gc", "ignore", "compiler_bootstrap", "gccgo"})
		if !slices.Contains(set, x.Tag) {
			return []string{x.Tag}
		}
	}
	return nil
}

// text prints an expression on one line.
func text(expr ast.Node) string {
	var out bytes.Buffer
	_ = printer.Fprint(&out, token.NewFileSet(), expr) // writing to memory does not fail
	return strings.Join(strings.Fields(out.String()), " ")
}
