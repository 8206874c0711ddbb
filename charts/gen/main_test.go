package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestFilesAreCurrent(t *testing.T) {
	const dir = ".."
	files, err := generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v; run go generate ./charts", err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from its source; run go generate ./charts", name)
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, crds, "templates"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if _, ok := files[filepath.ToSlash(name)]; !ok {
			t.Errorf("%s has no source; run go generate ./charts", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
