// Package generated keeps the files that a generator under build owns: it reads those on disk, and either says which differ
// from those that there should be or makes them the same. A generator computes all its files in memory first, so that one
// that fails changes nothing.
//
// Nothing here is safe for concurrent use on one directory.
package generated

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Files is the content of files by their slash-separated paths from the module root.
type Files map[string][]byte

// ModuleDir is where a module lies, the empty name for the main module; the go command is asked.
func ModuleDir(ctx context.Context, module string) (string, error) {
	args := []string{"list", "-m", "-f", "{{.Dir}}"}
	if module != "" {
		args = append(args, module)
	}
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("finding module %q: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// List returns the sorted names of the files below dirs that keep wants, as slash-separated paths from root; keep is given
// such a path, too.
func List(root string, dirs []string, keep func(name string) bool) ([]string, error) {
	var names []string
	for _, dir := range dirs {
		err := fs.WalkDir(os.DirFS(root), dir, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && keep(name) {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

// Read returns the files below dirs that are the generator's, which owns tells.
func Read(root string, dirs []string, owns func(name string) bool) (Files, error) {
	names, err := List(root, dirs, owns)
	if err != nil {
		return nil, err
	}
	files := make(Files, len(names))
	for _, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(root, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Check fails, naming the files, if have differs from want; generator is what to run then.
func Check(have, want Files, generator string) error {
	if changed := diff(have, want); len(changed) > 0 {
		return fmt.Errorf("out of date, run `%s`: %s", generator, strings.Join(changed, ", "))
	}
	return nil
}

// Write changes the files under root from have to want. It leaves alone what is right, and removes what is not in want:
// the source of that is gone.
func Write(root string, have, want Files) error {
	for _, name := range diff(have, want) {
		file := filepath.Join(root, filepath.FromSlash(name))
		content, ok := want[name]
		if !ok {
			if err := os.Remove(file); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// diff returns the sorted names of the files that differ or exist on one side only.
func diff(have, want Files) []string {
	var names []string
	for name, content := range want {
		if old, ok := have[name]; !ok || !bytes.Equal(old, content) {
			names = append(names, name)
		}
	}
	for name := range have {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
