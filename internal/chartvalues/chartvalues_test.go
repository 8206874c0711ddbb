package chartvalues

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func text(t *testing.T, v map[string]any) string {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestReadLaysOneOverTheOther(t *testing.T) {
	files := map[string]string{"a": "x: {v: 1, z: 1}\nl: [1]\n", "b": "x: {v: 2}\n", "c": "content"}
	o := Options{
		Files:      []string{"a", "b"},
		Sets:       []string{"x.w=1,l[0]=7", "gone=null"},
		SetStrings: []string{"x.w=2"},
		SetFiles:   []string{"f=c"},
	}
	got, err := o.Read(func(name string) ([]byte, error) { return []byte(files[name]), nil })
	if err != nil {
		t.Fatal(err)
	}
	if want := "f: content\ngone: null\nl:\n- 7\nx:\n  v: 2\n  w: \"2\"\n  z: 1\n"; text(t, got) != want {
		t.Errorf("values are\n%s\nwant\n%s", text(t, got), want)
	}
}

func TestReadNamesWhatIsWrong(t *testing.T) {
	read := func(string) ([]byte, error) { return nil, errors.New("no such file") }
	for want, o := range map[string]Options{
		"no such file":                       {Files: []string{"a"}},
		"failed parsing --set data: ":        {Sets: []string{"a[x"}},
		"failed parsing --set-string data: ": {SetStrings: []string{"a[x"}},
		"failed parsing --set-file data: ":   {SetFiles: []string{"a=b"}},
	} {
		if _, err := o.Read(read); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %v, want %q...", err, want)
		}
	}
}

// TestDifference: what is stored and laid over the defaults again gives the
// same values, whatever kinds they have.
func TestDifference(t *testing.T) {
	base := "a: 1\nb: {c: x, d: [1, 2]}\ne: []\nf: {g: true}\nk: 5\n"
	for given, want := range map[string]string{
		base: "{}\n",
		"a: 2\nb: {c: x, d: [1, 2]}\ne: []\nf: {g: true}\nk: 5\n":                  "a: 2\n",
		"a: 1\nb: {c: x, d: [1]}\ne: [{k: v}]\nf: {g: true}\nk: 5\n":               "b:\n  d:\n  - 1\ne:\n- k: v\n",
		"a: 1\nb: {c: \"\", d: [1, 2]}\ne: []\nf: {g: false, new: {x: 1}}\nk: 5\n": "b:\n  c: \"\"\nf:\n  g: false\n  new:\n    x: 1\n",
		"a: 1\nb: {c: x, d: [1, 2]}\ne: []\nf: {}\nk: null\n":                      "f:\n  g: null\nk: null\n",
	} {
		d := Difference(values(t, base), values(t, given))
		if text(t, d) != want {
			t.Errorf("difference to\n%s is\n%s\nwant\n%s", given, text(t, d), want)
		}
	}
	// A number from a flag is the number from a file.
	v := values(t, base)
	Set(v, "a", int64(1))
	if d := Difference(values(t, base), v); len(d) != 0 {
		t.Errorf("an equal number differs: %v", d)
	}
}

func TestPaths(t *testing.T) {
	v := values(t, "a: {b: {c: 1.5}}\nt: true\ns: x\n")
	Set(v, "a.b.d", "new")
	Set(v, "q.r", false)
	if String(v, "a.b.c") != "1.5" || String(v, "a.b.d") != "new" || String(v, "s.t") != "" || String(v, "none") != "" {
		t.Errorf("texts in %v", v)
	}
	if !Bool(v, "t") || Bool(v, "q.r") || Bool(v, "s") || Get(v, "a.b.x") != nil {
		t.Errorf("values in %v", v)
	}
}

func TestWriteManifest(t *testing.T) {
	const manifest = "---\na: 1\n---\n# nothing\n---\nb: [x]\n"
	for format, want := range map[string]string{"yaml": manifest, "json": "{\"a\":1}\n{\"b\":[\"x\"]}\n"} {
		var out bytes.Buffer
		if err := WriteManifest(&out, []byte(manifest), format); err != nil || out.String() != want {
			t.Errorf("%s is %q (%v), want %q", format, out.String(), err, want)
		}
	}
	if err := WriteManifest(nil, nil, "toml"); err == nil || err.Error() != "unsupported format toml" {
		t.Errorf("error is %v", err)
	}
}
