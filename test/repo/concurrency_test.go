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

// leaksNotLookedFor are packages whose tests start goroutines and need not show that those end, and why.
var leaksNotLookedFor = map[string]string{
	"test/e2e":          "its goroutines hold connections to a cluster, and what a cluster does with them is not what is tested",
	"test/controlplane": "likewise, and the controllers under test are processes of their own",
	"internal/leaks":    "it is what looks, and its own tests do so without importing it",
}

// TestLeaksAreLookedFor: a goroutine that nobody waits for is found where it is made, by the tests of its package.
func TestLeaksAreLookedFor(t *testing.T) {
	for dir, files := range parsed(t) {
		starts, tested, looked := false, false, false
		for _, f := range files {
			ast.Inspect(f.tree, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					starts = true
				case *ast.SelectorExpr:
					// (*sync.WaitGroup).Go and (*errgroup.Group).Go
					starts = starts || n.Sel.Name == "Go"
				}
				return true
			})
			if f.test {
				tested = true
				for _, i := range f.tree.Imports {
					looked = looked || i.Path.Value == `"`+module+`/internal/leaks"`
				}
			}
		}
		if _, excused := leaksNotLookedFor[dir]; starts && tested && !looked && !excused {
			t.Errorf("%s starts goroutines, and its tests do not look for those that are left: add `func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }`", dir)
		}
	}
}

// guards are the words by which a comment says what a mutex is for.
var guards = regexp.MustCompile(`(?i)\b(guard|held|serial|keeps?|admits?|mix)`)

// TestMutexesSayWhatTheyGuard: a lock whose extent is not written down is widened, or forgotten, by the next change.
func TestMutexesSayWhatTheyGuard(t *testing.T) {
	for _, files := range parsed(t) {
		for _, f := range files {
			if f.test {
				continue
			}
			ast.Inspect(f.tree, func(n ast.Node) bool {
				list, ok := n.(*ast.StructType)
				if !ok {
					return true
				}
				said := false
				for _, field := range list.Fields.List {
					said = said || guards.MatchString(field.Doc.Text()) || guards.MatchString(field.Comment.Text())
				}
				for _, c := range f.tree.Comments {
					// A comment that belongs to no field, such as one above an empty line.
					said = said || list.Pos() < c.Pos() && c.End() < list.End() && guards.MatchString(c.Text())
				}
				for _, field := range list.Fields.List {
					if isMutex(field.Type) && !said {
						t.Errorf("%s: say in a comment what this mutex guards", f.set.Position(field.Pos()))
					}
				}
				return true
			})
		}
	}
}

// isMutex reports whether a type is one of the locks of package sync.
func isMutex(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := s.X.(*ast.Ident)
	return ok && from.Name == "sync" && (s.Sel.Name == "Mutex" || s.Sel.Name == "RWMutex")
}

// source is a Go file.
type source struct {
	set  *token.FileSet
	tree *ast.File
	test bool
}

// parsed are the Go files of the root module by their folders, but for generated ones.
func parsed(t *testing.T) map[string][]source {
	t.Helper()
	out := map[string][]source{}
	for _, p := range list(t) {
		entries, err := os.ReadDir(p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, filepath.Join(p.Dir, e.Name()), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if !ast.IsGenerated(tree) {
				dir := within(p.ImportPath)
				out[dir] = append(out[dir], source{set, tree, strings.HasSuffix(e.Name(), "_test.go")})
			}
		}
	}
	return out
}
