package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPathNamesExist: docs/path.md is only worth reading if its names resolve.
func TestPathNamesExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/path.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := functions(t, filepath.Join(root(t), "proxy"))
	for name := range functions(t, filepath.Join(root(t), "cmd/linkerd-proxy")) {
		known[name] = true
	}
	n := 0
	for _, m := range regexp.MustCompile("`([a-z0-9]+(?:\\.[A-Za-z0-9]+)+)`").FindAllStringSubmatch(string(text), -1) {
		n++
		if !known[m[1]] {
			t.Errorf("docs/path.md names %s, which does not exist: find what took its place and say so there", m[1])
		}
	}
	if n < 50 {
		t.Errorf("docs/path.md has only %d names", n)
	}
}

// functions are the functions and methods below dir, as package.Function and
// package.Type.Function.
func functions(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name + "."
			if fn.Recv != nil {
				name += receiver(fn.Recv.List[0].Type) + "."
			}
			out[name+fn.Name.Name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// receiver is the name of a receiver's type, without pointer and parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
