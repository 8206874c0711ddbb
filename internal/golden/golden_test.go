package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// told is a test that keeps what it is told.
type told struct {
	testing.TB
	text string
}

func (t *told) Helper() {}

func (t *told) Errorf(format string, args ...any) { t.text += fmt.Sprintf(format, args...) }

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("same\nold\nend\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var same, other, shorter told
	File(&same, path, "same\nold\nend\n")
	File(&other, path, "same\nnew\nend\n")
	File(&shorter, path, "same\n")
	if same.text != "" {
		t.Errorf("the same text is told as different: %s", same.text)
	}
	for got, want := range map[string]string{
		other.text:   "from line 2\ngot\nnew\nend\n\nwant\nold\nend\n",
		shorter.text: "from line 2\ngot\n\nwant\nold\nend\n",
	} {
		if !strings.HasSuffix(got, want) {
			t.Errorf("told\n%s\nwant at the end\n%s", got, want)
		}
	}
}

func TestUpdate(t *testing.T) {
	*update = true
	defer func() { *update = false }()
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"new\n", "newer\n"} {
		File(t, path, text)
		if got, err := os.ReadFile(path); string(got) != text || err != nil {
			t.Errorf("the file has %q, %v; want %q", got, err, text)
		}
	}
}

// TestArchives finds testdata in folders too, and plays each archive under its name.
func TestArchives(t *testing.T) {
	var names []string
	Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		names = append(names, t.Name())
		parts = With(parts, "upper", strings.ToUpper(Part(parts, "in")))
		return With(parts, "nothing", "")
	})
	if got, want := fmt.Sprint(names), "[TestArchives/folder/two TestArchives/one]"; got != want {
		t.Errorf("played %s, want %s", got, want)
	}
}
