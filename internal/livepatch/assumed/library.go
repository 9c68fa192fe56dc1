package assumed

import (
	"go/ast"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// aside are the folders of the library's source that only tests import, or no
// user's program.
var aside = []string{"cmd", "vendor", "testdata", "builtin", "_asm", "_gen", "internal/trace",
	"internal/testenv", "net/internal/socktest",
	"internal/fuzz", "internal/lazytemplate", "crypto/internal/fips140test",
	"crypto/internal/cryptotest", "internal/dag", "internal/pkgbits",
	"internal/coverage", "go", "internal/obscuretestdata", "internal/goroot"}

// Library returns the locks of package sync in the variables of the standard
// library below a folder. Another goroutine may hold these locks at a fork.
func Library(src string) ([]Fact, error) {
	lib := library{}
	err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || path == src {
			return err
		}
		pkg, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		if pkg == "runtime" {
			return nil // it has another kind of locks, unlike the packages below it
		}
		if slices.Contains(aside, pkg) || slices.Contains(aside, filepath.Base(pkg)) &&
			filepath.Base(pkg) != "go" {
			return filepath.SkipDir
		}
		files, err := Folder(path)
		if len(files) > 0 {
			lib[pkg] = files
			return nil // even if a later Go's syntax is an error
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var facts []Fact
	for pkg, files := range lib {
		for _, file := range files {
			facts = append(facts, lib.locks(pkg, file)...)
		}
	}
	return facts, nil
}

// library has the files of each package.
type library map[string][]*ast.File

// locks returns the locks in the variables of a file.
func (lib library) locks(pkg string, file *ast.File) (facts []Fact) {
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			spec := spec.(*ast.ValueSpec)
			for i, name := range spec.Names {
				for _, lock := range lib.inside(pkg, file, declaredType(spec, i), 0) {
					path, of, _ := strings.Cut(lock, " ")
					facts = append(facts,
						Fact{"lock", strings.TrimSuffix(pkg+"."+name.Name+"."+path, "."), of})
				}
			}
		}
	}
	return facts
}

// declaredType returns the type of a variable, or nil if its declaration does
// not tell the type.
func declaredType(spec *ast.ValueSpec, i int) ast.Expr {
	if spec.Type != nil {
		return spec.Type
	}
	if i >= len(spec.Values) {
		return nil
	}
	value := spec.Values[i]
	if unary, ok := value.(*ast.UnaryExpr); ok && unary.Op == token.AND {
		value = unary.X
	}
	switch value := value.(type) {
	case *ast.CompositeLit:
		return value.Type
	case *ast.CallExpr:
		if text(value.Fun) == "new" {
			return value.Args[0]
		}
		return value.Fun // New of a type: see inside
	}
	return nil
}

// inside returns the locks in a type, each as its path and its type. It also
// looks into the types of the fields. If t is the name of a function, inside
// looks into the type that the function returns.
func (lib library) inside(pkg string, file *ast.File, t ast.Expr, depth int) (found []string) {
	if depth > 6 {
		return nil
	}
	in := func(t ast.Expr) []string { return lib.inside(pkg, file, t, depth+1) }
	switch t := t.(type) {
	case *ast.StarExpr:
		return in(t.X)
	case *ast.ArrayType:
		return in(t.Elt)
	case *ast.IndexExpr:
		return in(t.X)
	case *ast.StructType:
		for _, field := range t.Fields.List {
			for _, name := range fieldNames(field) {
				for _, lock := range in(field.Type) {
					found = append(found, name+"."+lock)
				}
			}
		}
	case *ast.Ident:
		return lib.named(pkg, t.Name, depth)
	case *ast.SelectorExpr:
		of, ok := t.X.(*ast.Ident)
		if !ok {
			return nil
		}
		switch name := of.Name + "." + t.Sel.Name; name {
		case "sync.Mutex", "sync.RWMutex", "sync.WaitGroup", "sync.Cond", "singleflight.Group":
			return []string{" " + name}
		}
		return lib.named(imported(file, of.Name), t.Sel.Name, depth)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// named returns the locks in a named type, or in the type that a function
// returns.
func (lib library) named(pkg, name string, depth int) []string {
	if pkg == "sync" || strings.HasPrefix(pkg, "sync/") || pkg == "internal/sync" {
		return nil // a Once begins anew, the locks of a Map and a Pool are free
	}
	for _, file := range lib[pkg] {
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok && spec.Name.Name == name {
						return lib.inside(pkg, file, spec.Type, depth+1)
					}
				}
			case *ast.FuncDecl:
				if decl.Name.Name == name && decl.Recv == nil && decl.Type.Results != nil {
					return lib.inside(pkg, file, decl.Type.Results.List[0].Type, depth+1)
				}
			}
		}
	}
	return nil
}

// imported returns the path of the package that a file imports by a name.
func imported(file *ast.File, name string) string {
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil &&
			(path == name || strings.HasSuffix(path, "/"+name)) {
			return path
		}
	}
	return ""
}
