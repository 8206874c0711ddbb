package valuetree

import (
	"reflect"
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

func TestWithDefaults(t *testing.T) {
	defaults := map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": "b", "c": map[string]any{"z": 3}, "d": []any{1}}
	given := map[string]any{"a": map[string]any{"y": false, "own": 1}, "b": nil, "c": "no map", "d": []any{}}
	want := map[string]any{"a": map[string]any{"x": 1, "y": false, "own": 1}, "b": "b", "c": "no map", "d": []any{}}
	if got := WithDefaults(given, defaults); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !reflect.DeepEqual(defaults["a"], map[string]any{"x": 1, "y": 2}) || !reflect.DeepEqual(given["a"], map[string]any{"y": false, "own": 1}) {
		t.Errorf("arguments changed: %v, %v", defaults, given)
	}
}

// TestCloneSharesNothingThatChanges: a pod's annotations must not reach the next pod.
func TestCloneSharesNothingThatChanges(t *testing.T) {
	original := map[string]any{"a": map[string]any{"list": []any{map[string]any{"x": 1}}}}
	copied := Clone(original).(map[string]any)
	Set(copied, "a.new.path", true)
	Get(copied, "a.list").([]any)[0].(map[string]any)["x"] = 2
	if want := map[string]any{"a": map[string]any{"list": []any{map[string]any{"x": 1}}}}; !reflect.DeepEqual(original, want) {
		t.Errorf("original is %v", original)
	}
}
