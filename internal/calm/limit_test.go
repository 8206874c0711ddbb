package calm

import (
	"os"
	"path/filepath"
	"testing"
)

func TestContainerLimit(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             int64
		ok               bool
	}{
		{"version 2", "memory.max", "262144000\n", 262144000, true},
		{"version 2, none", "memory.max", "max\n", 0, false},
		{"version 1", "memory/memory.limit_in_bytes", "262144000\n", 262144000, true},
		{"version 1, none", "memory/memory.limit_in_bytes", "9223372036854771712\n", 0, false},
		{"no control groups", "other", "1", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			got, ok := containerLimit(root)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("got %d, %v", got, ok)
			}
		})
	}
}
