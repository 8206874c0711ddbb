// Package golden compares what a test made with a file, so that a case is added by adding a file, and a wanted change is
// reviewed as a difference of files. It is for tests only. With the flag -update, which it defines, files are written instead:
//
//	func TestCases(t *testing.T) {
//		golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
//			got := run(t, golden.Part(parts, "in"))
//			return golden.With(parts, "want", got)
//		})
//	}
//
//	go test ./that/package -update
//
// All of it belongs to the test's goroutine.
package golden

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the tests see into the files that they compare it with")

// File compares got with a file, or writes it.
func File(t testing.TB, path, got string) {
	t.Helper()
	want, err := os.ReadFile(path)
	switch {
	case *update:
		if err == nil && string(want) == got {
			return
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	case err != nil:
		t.Fatal(err)
	case string(want) != got:
		t.Errorf("%s is different; after a wanted change run the test with -update and look at the difference\n%s", path, difference(got, string(want)))
	}
}

// Files runs play as a subtest on the text of each file below dir, in folders too, whose name ends with ext, and compares what
// it returns with the file.
func Files(t *testing.T, dir, ext string, play func(t *testing.T, text string) string) {
	t.Helper()
	dir, err := filepath.Abs(dir) // a test may go elsewhere
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ext {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		t.Fatalf("files %s of %s: %v", ext, dir, err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(path, dir+string(filepath.Separator)), ext), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			File(t, path, play(t, string(text)))
		})
	}
}

// Archives is Files for the parts of .txtar archives.
func Archives(t *testing.T, dir string, play func(t *testing.T, parts []txtar.File) []txtar.File) {
	t.Helper()
	Files(t, dir, ".txtar", func(t *testing.T, text string) string {
		archive := txtar.Parse([]byte(text))
		return string(txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: play(t, archive.Files)}))
	})
}

// Part returns the text of the first part with a name, "" if there is none.
func Part(parts []txtar.File, name string) string {
	for _, part := range parts {
		if part.Name == name {
			return string(part.Data)
		}
	}
	return ""
}

// With returns the parts with another text for that with a name, which comes last if it is new. An empty text is no part.
func With(parts []txtar.File, name, text string) []txtar.File {
	at := slices.IndexFunc(parts, func(part txtar.File) bool { return part.Name == name })
	switch {
	case at < 0 && text == "":
		return parts
	case at < 0:
		return append(slices.Clone(parts), txtar.File{Name: name, Data: []byte(text)})
	case text == "":
		return slices.Delete(slices.Clone(parts), at, at+1)
	}
	parts = slices.Clone(parts)
	parts[at].Data = []byte(text)
	return parts
}

// context is how many lines of a difference are shown.
const context = 12

// difference shows two texts from the first line in which they differ.
func difference(got, want string) string {
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	at := 0
	for at < len(g) && at < len(w) && g[at] == w[at] {
		at++
	}
	show := func(lines []string) string {
		return strings.Join(lines[min(at, len(lines)):min(at+context, len(lines))], "")
	}
	return fmt.Sprintf("from line %d\ngot\n%s\nwant\n%s", at+1, show(g), show(w))
}
