// Package assumed holds what the patch for live forks assumes about Go's
// standard library. The file facts.txt lists each fact, with the Go versions
// that have it and a verdict: what a fork does about it. The package finds the
// facts of another release in its source, so that what is new there is known by
// name.
package assumed

import (
	"go/ast"
	"go/token"
	"strings"
)

// A Fact is something that a fork must consider, and its type or value.
type Fact struct {
	Kind string // var, field or const, of package runtime; lock, of any other
	Name string // as in allm, schedt.lock, mime.extensionsMu
	Type string
}

func (f Fact) String() string { return f.Kind + " " + f.Name + " " + f.Type }

// structs are the structs of package runtime whose fields are facts.
var structs = map[string]bool{
	"m": true, "p": true, "g": true, "schedt": true, "mOS": true, "timers": true, "timer": true,
	"workType": true, "mutex": true,
	"rwmutex": true, "sudog": true, "semaRoot": true, "cpuProfile": true, "profileBuf": true,
	"cleanupQueue": true, "note": true, "hchan": true,
	"randState": true, "gobuf": true, "gQueue": true, "gList": true, "sigset": true,
	"pollDesc": true, "pollCache": true,
}

// Runtime returns the facts of the runtime's parsed files: each variable of the
// package that code writes to or takes the address of, each field of the
// scheduler's structs, the states of goroutines, and the ranks of locks.
func Runtime(files []*ast.File) []Fact {
	written := writtenIn(files)
	var facts []Fact
	for _, file := range files {
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok {
				facts = append(facts, declared(gen, written)...)
			}
		}
	}
	return facts
}

func declared(gen *ast.GenDecl, written map[string]bool) (facts []Fact) {
	for i, spec := range gen.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			for j, name := range spec.Names {
				switch {
				case gen.Tok == token.VAR && name.Name != "_" && written[name.Name]:
					facts = append(facts, Fact{"var", name.Name, typeOf(spec, j)})
					if s, ok := spec.Type.(*ast.StructType); ok {
						facts = append(facts, fields(name.Name, s)...)
					}
				case gen.Tok == token.CONST && isAssumed(name.Name):
					facts = append(facts, Fact{"const", name.Name, valueOf(gen, i, j)})
				}
			}
		case *ast.TypeSpec:
			if s, ok := spec.Type.(*ast.StructType); ok && structs[spec.Name.Name] {
				facts = append(facts, fields(spec.Name.Name, s)...)
			}
		}
	}
	return facts
}

// isAssumed reports whether a constant is a fact: a state of goroutines or Ps,
// what is added to m.locks, or the rank of a lock.
func isAssumed(name string) bool {
	for _, prefix := range []string{"_G", "_P", "lockRank", "mutexMLocksDelta", "timerModified"} {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, "_PROT") &&
			!strings.HasPrefix(name, "_POLL") {
			return true
		}
	}
	return false
}

func fields(of string, s *ast.StructType) (facts []Fact) {
	for _, field := range s.Fields.List {
		for _, name := range fieldNames(field) {
			if name != "_" {
				facts = append(facts, Fact{"field", of + "." + name, typeText(field.Type)})
			}
		}
	}
	return facts
}

// fieldNames returns the names of fields that are declared together, or the
// name of an embedded field.
func fieldNames(field *ast.Field) (names []string) {
	if len(field.Names) == 0 {
		name := strings.TrimPrefix(text(field.Type), "*")
		return []string{name[strings.LastIndex(name, ".")+1:]}
	}
	for _, name := range field.Names {
		names = append(names, name.Name)
	}
	return names
}

// typeText returns a type as text. For a struct type the text is "struct",
// since its fields are other facts, or none.
func typeText(t ast.Expr) string {
	if _, ok := t.(*ast.StructType); ok {
		return "struct"
	}
	return text(t)
}

// typeOf returns the type of a variable as text. If the declaration has no
// type, the text follows from the value.
func typeOf(spec *ast.ValueSpec, i int) string {
	if spec.Type != nil {
		return typeText(spec.Type)
	}
	if i >= len(spec.Values) {
		return "?"
	}
	value, pointer := spec.Values[i], ""
	if unary, ok := value.(*ast.UnaryExpr); ok && unary.Op == token.AND {
		value, pointer = unary.X, "*"
	}
	switch value := value.(type) {
	case *ast.CompositeLit:
		return pointer + typeText(value.Type)
	case *ast.FuncLit:
		return "func"
	case *ast.CallExpr:
		if _, ok := value.Fun.(*ast.FuncLit); !ok {
			return text(value.Fun) + "()"
		}
	}
	return "?"
}

// valueOf returns the value of a constant as text. For a constant in a list
// with iota the text says which constant is before it.
func valueOf(gen *ast.GenDecl, i, j int) string {
	if spec := gen.Specs[i].(*ast.ValueSpec); j < len(spec.Values) {
		return text(spec.Values[j])
	}
	for k := i - 1; k >= 0; k-- {
		if name := gen.Specs[k].(*ast.ValueSpec).Names[0].Name; name != "_" {
			return "after " + name
		}
	}
	return "?"
}

// writtenIn returns the names to which functions assign, of which they take the
// address, or of which they call methods. A local variable of the same name
// counts, too.
func writtenIn(files []*ast.File) map[string]bool {
	written := map[string]bool{}
	mark := func(expr ast.Expr) {
		if name := root(expr); name != "" {
			written[name] = true
		}
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, to := range n.Lhs {
						mark(to)
					}
				}
			case *ast.IncDecStmt:
				mark(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					mark(n.X)
				}
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					mark(n.Key)
				}
			case *ast.CallExpr:
				if method, ok := n.Fun.(*ast.SelectorExpr); ok {
					mark(method.X)
				}
			}
			return true
		})
	}
	return written
}

// root returns the variable of an expression: a for a.b[i].
func root(expr ast.Expr) string {
	for {
		switch x := expr.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.SelectorExpr:
			expr = x.X
		case *ast.IndexExpr:
			expr = x.X
		case *ast.SliceExpr:
			expr = x.X
		case *ast.ParenExpr:
			expr = x.X
		default:
			return ""
		}
	}
}
