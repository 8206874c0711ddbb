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

// TestPathNamesExist: docs/path.md is only worth reading if its names resolve, and
// are on the way.
func TestPathNamesExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/path.md"))
	if err != nil {
		t.Fatal(err)
	}
	known, used := map[string]bool{}, map[string]bool{}
	for _, dir := range []string{"proxy", "cmd/linkerd-proxy"} {
		functions(t, filepath.Join(root(t), dir), known, used)
	}
	n := 0
	for _, m := range regexp.MustCompile("`([a-z0-9]+(?:\\.[A-Za-z0-9]+)+)`").FindAllStringSubmatch(string(text), -1) {
		n++
		if !known[m[1]] {
			t.Errorf("docs/path.md names %s, which does not exist: find what took its place and say so there", m[1])
		} else if name := m[1][strings.LastIndexByte(m[1], '.')+1:]; !used[name] {
			t.Errorf("docs/path.md names %s, which nothing calls: find what is called instead and say so there", m[1])
		}
	}
	if n < 50 {
		t.Errorf("docs/path.md has only %d names", n)
	}
}

// functions puts the functions and methods below dir in known, as package.Function
// and package.Type.Function, and the names that they refer to in used.
func functions(t *testing.T, dir string, known, used map[string]bool) {
	t.Helper()
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
				names(d, used)
				continue
			}
			names(fn.Type, used)
			if fn.Body != nil {
				names(fn.Body, used)
			}
			name := f.Name.Name + "."
			if fn.Recv != nil {
				name += receiver(fn.Recv.List[0].Type) + "."
			}
			known[name+fn.Name.Name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// names puts the names in n in used.
func names(n ast.Node, used map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			used[id.Name] = true
		}
		return true
	})
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
