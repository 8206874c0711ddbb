package generated_test

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/build/generated"
)

// long is a time before any test.
var long = time.Unix(1_000_000_000, 0)

// Check names what differs, what is missing and what is left over; Write makes all of it right, and touches nothing else.
func TestCheckAndWrite(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"a/same.gen": "1", "a/changed.gen": "1", "a/stale.gen": "1", "a/hand.go": "1", "elsewhere/x.gen": "1",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, long, long); err != nil {
			t.Fatal(err)
		}
	}
	read := func() generated.Files {
		files, err := generated.Read(root, []string{"a"}, func(name string) bool { return path.Ext(name) == ".gen" })
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	have := read()
	if got := slices.Sorted(maps.Keys(have)); !slices.Equal(got, []string{"a/changed.gen", "a/same.gen", "a/stale.gen"}) {
		t.Fatalf("read %v", got)
	}
	want := generated.Files{"a/same.gen": []byte("1"), "a/changed.gen": []byte("2"), "a/b/new.gen": []byte("1")}
	err := generated.Check(have, want, "go run ./x")
	if err == nil || !strings.HasSuffix(err.Error(), "run `go run ./x`: a/b/new.gen, a/changed.gen, a/stale.gen") {
		t.Fatalf("got %v", err)
	}
	if err := generated.Write(root, have, want); err != nil {
		t.Fatal(err)
	}
	if err := generated.Check(read(), want, "go run ./x"); err != nil {
		t.Fatalf("after writing: %v", err)
	}
	for _, name := range []string{"a/same.gen", "a/hand.go", "elsewhere/x.gen"} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if !info.ModTime().Equal(long) {
			t.Errorf("%s was written", name)
		}
	}
}

// The main module is this one, and others are found by their names.
func TestModuleDir(t *testing.T) {
	own, err := generated.ModuleDir(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(own, "build", "generated")); err != nil {
		t.Error(err)
	}
	if dir, err := generated.ModuleDir(t.Context(), "no.such/module"); err == nil || !strings.Contains(err.Error(), `"no.such/module"`) {
		t.Errorf("got %q, %v", dir, err)
	}
}
