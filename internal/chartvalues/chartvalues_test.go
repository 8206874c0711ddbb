package chartvalues

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

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
