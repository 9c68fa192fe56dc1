// Knots fails if files of one package use each other.
//
//	go -C tools run ./knots [-v] ../ ../live ...
//
// A file uses another file if one of its identifiers is declared there:
// a function, a type, a method, a field, a variable. A package whose files
// form a ladder, in which each file uses only files below it, can be read
// from the bottom up. Knots prints each ring of files that use each other,
// with an identifier for each step, and exits with status 1. With -v Knots
// also prints the ladder itself.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// uses holds, for each file, the files that it uses, and one identifier that
// shows the use.
type uses map[string]map[string]string

func main() {
	verbose := flag.Bool("v", false, "print the ladder of each package")
	tags := flag.String("tags", "", "build tags, as go build takes them")
	flag.Parse()
	knots := 0
	for _, dir := range flag.Args() {
		n, err := check(dir, *tags, *verbose)
		if err != nil {
			fmt.Fprintln(os.Stderr, "knots:", err)
			os.Exit(2)
		}
		knots += n
	}
	if knots > 0 {
		os.Exit(1)
	}
}

// check prints the knots of the package in dir, and returns how many there are.
func check(dir, tags string, verbose bool) (int, error) {
	const mode = packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles |
		packages.NeedImports | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedSyntax | packages.NeedExportFile
	pkgs, err := packages.Load(&packages.Config{Mode: mode, Dir: dir,
		BuildFlags: []string{"-tags=" + tags}}, ".")
	if err != nil {
		return 0, err
	}
	knots := 0
	for _, pkg := range pkgs {
		if len(pkg.Errors) > 0 {
			return 0, fmt.Errorf("%s: %v", dir, pkg.Errors[0])
		}
		u := usesOf(pkg)
		rings := u.rings()
		for _, ring := range rings {
			fmt.Printf("%s: files that use each other:\n%s", pkg.PkgPath, u.explain(ring))
		}
		if verbose {
			fmt.Printf("%s, from the top:\n%s", pkg.PkgPath, u.ladder())
		}
		knots += len(rings)
	}
	return knots, nil
}

func usesOf(pkg *packages.Package) uses {
	u := uses{}
	for _, f := range pkg.Syntax {
		from := base(pkg, f)
		if from == "" {
			continue
		}
		if u[from] == nil {
			u[from] = map[string]string{}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := pkg.TypesInfo.Uses[id]
			if obj == nil || obj.Pkg() != pkg.Types {
				return true
			}
			switch o := obj.(type) { // of an instance, what was declared
			case *types.Func:
				obj = o.Origin()
			case *types.Var:
				obj = o.Origin()
			}
			// Positions in files that cgo wrote point back to what it read.
			to := filepath.Base(pkg.Fset.Position(obj.Pos()).Filename)
			if to != from && strings.HasSuffix(to, ".go") && !strings.HasPrefix(to, "_cgo") {
				u[from][to] = obj.Name()
			}
			return true
		})
	}
	return u
}

// base returns the name of the file that f was written as, or "" for a file
// that only cgo has written.
func base(pkg *packages.Package, f *ast.File) string {
	name := filepath.Base(pkg.Fset.Position(f.Name.Pos()).Filename)
	if strings.HasPrefix(name, "_cgo") || !strings.HasSuffix(name, ".go") {
		return ""
	}
	return name
}

// rings returns the strongly connected sets of more than one file.
func (u uses) rings() [][]string {
	s := search{uses: u, index: map[string]int{}, low: map[string]int{}, on: map[string]bool{}}
	for _, f := range u.files() {
		if s.index[f] == 0 {
			s.visit(f)
		}
	}
	return s.rings
}

// search is the state of Tarjan's algorithm.
type search struct {
	uses
	next  int            // the last index that was given
	index map[string]int // the order in which files were visited, from 1
	low   map[string]int // the least index that a file reaches
	stack []string
	on    map[string]bool // on the stack
	rings [][]string
}

func (s *search) visit(f string) {
	s.next++
	s.index[f], s.low[f] = s.next, s.next
	s.stack = append(s.stack, f)
	s.on[f] = true
	for _, to := range s.below(f) {
		if s.index[to] == 0 {
			s.visit(to)
			s.low[f] = min(s.low[f], s.low[to])
		} else if s.on[to] {
			s.low[f] = min(s.low[f], s.index[to])
		}
	}
	if s.low[f] != s.index[f] {
		return
	}
	at := slices.Index(s.stack, f)
	ring := slices.Clone(s.stack[at:])
	s.stack = s.stack[:at]
	for _, g := range ring {
		s.on[g] = false
	}
	if len(ring) > 1 {
		slices.Sort(ring)
		s.rings = append(s.rings, ring)
	}
}

func (u uses) files() []string {
	var files []string
	for f := range u {
		files = append(files, f)
	}
	slices.Sort(files)
	return files
}

func (u uses) below(f string) []string {
	var below []string
	for to := range u[f] {
		below = append(below, to)
	}
	slices.Sort(below)
	return below
}

func (u uses) explain(ring []string) string {
	var b strings.Builder
	for _, from := range ring {
		for _, to := range u.below(from) {
			if slices.Contains(ring, to) {
				fmt.Fprintf(&b, "\t%s uses %s (%s)\n", from, to, u[from][to])
			}
		}
	}
	return b.String()
}

// ladder prints each file with the files that it uses, after all files that
// use it.
func (u uses) ladder() string {
	height := map[string]int{}
	var climb func(f string, above []string) int
	climb = func(f string, above []string) int {
		if h, ok := height[f]; ok {
			return h
		}
		h := 0
		for _, to := range u.below(f) {
			if !slices.Contains(above, to) {
				h = max(h, 1+climb(to, append(above, f)))
			}
		}
		height[f] = h
		return h
	}
	files := u.files()
	for _, f := range files {
		climb(f, nil)
	}
	slices.SortStableFunc(files, func(a, b string) int { return height[b] - height[a] })
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%4d %s -> %s\n", height[f], f, strings.Join(u.below(f), " "))
	}
	return b.String()
}
