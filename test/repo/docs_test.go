package repo

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPackagesIntroduceThemselves: the first thing a newcomer reads of a
// package is its comment.
func TestPackagesIntroduceThemselves(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		if strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no package comment: say what it is, how it is used, and from which goroutines", within(p.ImportPath))
		}
	}
}

// TestPackageCommentsNameWhatExists: the example in a package's comment is the first
// thing that is copied, and nothing compiles it.
func TestPackageCommentsNameWhatExists(t *testing.T) {
	for dir, files := range parsed(t) {
		declared := map[string]bool{}
		for _, f := range files {
			for _, d := range f.tree.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					declared[d.Name.Name] = true
				case *ast.GenDecl:
					names(d, declared)
				}
			}
		}
		for _, f := range files {
			if f.tree.Doc == nil {
				continue
			}
			own := regexp.MustCompile(`(?:^|[^\w.])` + f.tree.Name.Name + `\.([A-Z]\w*)`)
			for _, m := range own.FindAllStringSubmatch(f.tree.Doc.Text(), -1) {
				if !declared[m[1]] {
					t.Errorf("the comment of package %s names %s, which does not exist", dir, m[1])
				}
			}
		}
	}
}

// TestExportedThingsAreDocumented: who calls a thing of another package reads its
// comment, not its code. Methods that everybody knows need none.
func TestExportedThingsAreDocumented(t *testing.T) {
	known := []string{"Error", "String", "Unwrap"}
	for _, files := range parsed(t) {
		for _, f := range files {
			if f.test || f.tree.Name.Name == "main" {
				continue
			}
			say := func(at ast.Node, name string) {
				t.Errorf("%s: say in a comment what %s is", f.set.Position(at.Pos()), name)
			}
			for _, d := range f.tree.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) && !slices.Contains(known, d.Name.Name)) {
						say(d, d.Name.Name)
					}
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						switch spec := spec.(type) {
						case *ast.TypeSpec:
							if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
								say(spec, spec.Name.Name)
							}
						case *ast.ValueSpec:
							if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
								say(spec, spec.Names[0].Name)
							}
						}
					}
				}
			}
		}
	}
}

// TestMapNamesEveryRoom compares docs/map.md with the folders there are.
func TestMapNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/map.md"))
	if err != nil {
		t.Fatal(err)
	}
	var mapped []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)/` \\|").FindAllStringSubmatch(string(text), -1) {
		mapped = append(mapped, m[1])
	}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	var rooms []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "out" {
			rooms = append(rooms, e.Name())
		}
	}
	slices.Sort(mapped)
	slices.Sort(rooms)
	for _, r := range rooms {
		if !slices.Contains(mapped, r) {
			t.Errorf("docs/map.md has no line for %s/", r)
		}
	}
	for _, m := range mapped {
		if !slices.Contains(rooms, m) {
			t.Errorf("docs/map.md has a line for %s/, which does not exist", m)
		}
	}
}

// TestLinksInDocsLeadSomewhere follows relative links of every Markdown file.
func TestLinksInDocsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	err := filepath.WalkDir(root(t), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "out") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".md") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestProxyMapNamesEveryPackage compares proxy/README.md with the packages that
// there are.
func TestProxyMapNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "proxy/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	mapped := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		mapped[m[1]] = true
	}
	for _, p := range list(t) {
		name, ok := strings.CutPrefix(within(p.ImportPath), "proxy/")
		if !ok {
			continue
		}
		if !mapped[name] {
			t.Errorf("proxy/README.md has no line for %s", name)
		}
		delete(mapped, name)
	}
	for name := range mapped {
		t.Errorf("proxy/README.md has a line for %s, which does not exist", name)
	}
}

// TestUnsteadyTestsAreListed compares the tests that are marked as unsteady with the
// list in docs/testing.md, where a reader finds what passes only the second time.
func TestUnsteadyTestsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Test\\w+)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
	}
	// A mark is the first thing in a test.
	mark := regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\) \{\n\tunsteady\.Mark\(`)
	err = filepath.WalkDir(root(t), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "unsteady") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		marked := mark.FindAllStringSubmatch(string(code), -1)
		for _, m := range marked {
			if !listed[m[1]] {
				t.Errorf("docs/testing.md does not list %s of %s, which is marked as unsteady", m[1], path)
			}
			delete(listed, m[1])
		}
		if n := strings.Count(string(code), "\tunsteady.Mark("); n != len(marked) {
			t.Errorf("%s has %d marks, %d of them first in a test", path, n, len(marked))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		t.Errorf("docs/testing.md lists %s as unsteady, and no such test is marked", name)
	}
}

// TestLeaksAreLookedForWithPatience: goleak alone gives goroutines less than half a
// second, which a busy machine does not keep.
func TestLeaksAreLookedForWithPatience(t *testing.T) {
	for _, p := range list(t) {
		for _, i := range append(p.TestImports, p.XTestImports...) {
			if i == "go.uber.org/goleak" {
				t.Errorf("the tests of %s import goleak: use internal/leaks, which waits for goroutines that are about to end", within(p.ImportPath))
			}
		}
	}
}

// TestReleaseNotesSayWhatTheyAreAbout: who reads them looks for his part of the mesh.
func TestReleaseNotesSayWhatTheyAreAbout(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root(t), "docs/releases/next/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	about := regexp.MustCompile(`^(proxy|control plane|CLI|charts|viz|CNI): [^\n]+\.\n$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) != "README.md" && !about.Match(text) {
			t.Errorf("%s: a note is one line that begins with what it is about, see the README.md beside it", file)
		}
	}
}
