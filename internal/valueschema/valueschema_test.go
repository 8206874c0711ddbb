package valueschema

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const schema = `{
 "type": "object",
 "properties": {
  "replicas": {"title": "a number, 0 or more", "type": ["integer", "string", "null"], "pattern": "^[0-9]+$", "minimum": 0},
  "mode": {"title": "one of: a, b", "type": ["string", "null"], "enum": ["a", "b", null]},
  "untold": {"type": ["string", "null"], "pattern": "^x"},
  "both": {"title": "a text of x", "type": "string", "pattern": "^x", "enum": ["x"]},
  "secrets": {"title": "a list", "type": "array", "items": {"title": "a map of values", "type": "object"}},
  "labels": {"title": "a map of values", "type": "object", "additionalProperties": {"title": "a text", "type": "string"}},
  "proxy": {"title": "a map of values", "type": "object", "properties": {"port": {"title": "a port", "type": "integer", "maximum": 65535}}}
 }
}`

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, values string
		// want has a line for each misfit, with a mark if it is of another kind.
		want []string
	}{
		{"nothing", `{}`, nil},
		{"all right", `{replicas: "3", mode: b, secrets: [{name: a}], labels: {a.b/c: d}, proxy: {port: 80}, unknown: [1]}`, nil},
		{"null", `{replicas: null, mode: null}`, nil},
		{"no number", `replicas: many`, []string{`value replicas: "many" is not a number, 0 or more (kind)`}},
		{"too small", `replicas: -1`, []string{`value replicas: -1 is not a number, 0 or more`}},
		{"a map", `replicas: {a: 1}`, []string{`value replicas: a map is not a number, 0 or more (kind)`}},
		{"not among", `mode: c`, []string{`value mode: "c" is not one of: a, b`}},
		{"two rules", `both: z`, []string{`value both: "z" is not a text of x`}},
		{"kind and rules", `both: 7`, []string{`value both: 7 is not a text of x (kind)`}},
		{"element", `secrets: [{name: a}, b]`, []string{`value secrets.1: "b" is not a map of values (kind)`}},
		{"key of the user's", `labels: {a.b/c: true}`, []string{`value labels.a.b/c: true is not a text (kind)`}},
		{"below", `proxy: {port: 65536}`, []string{`value proxy.port: 65536 is not a port`}},
		{"more than one", `{replicas: many, mode: [c], proxy: 1}`, []string{
			`value mode: a list is not one of: a, b (kind)`, `value proxy: 1 is not a map of values (kind)`, `value replicas: "many" is not a number, 0 or more (kind)`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(c.values), &values); err != nil {
				t.Fatal(err)
			}
			misfits, err := Check([]byte(schema), values)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range misfits {
				line := m.Error()
				if m.Kind {
					line += " (kind)"
				}
				got = append(got, line)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestUntold: what the schema does not tell is at least named.
func TestUntold(t *testing.T) {
	misfits, err := Check([]byte(schema), map[string]any{"untold": "y"})
	if err != nil || len(misfits) != 1 || misfits[0].Error() != `value untold: "y" is not what the chart takes` {
		t.Errorf("misfits %v, error %v", misfits, err)
	}
}

// TestFlags: command lines give types that no YAML file gives.
func TestFlags(t *testing.T) {
	misfits, err := Check([]byte(schema), map[string]any{
		"secrets": []map[string]string{{"name": "a"}}, "labels": map[string]string{"a": "b"}, "proxy": map[string]any{"port": uint(80)},
	})
	if err != nil || len(misfits) > 0 {
		t.Errorf("misfits %v, error %v", misfits, err)
	}
}

func TestBrokenSchema(t *testing.T) {
	for _, text := range []string{`{`, `{"type": "thing"}`} {
		if _, err := Check([]byte(text), nil); err == nil {
			t.Errorf("%s is taken for a schema", text)
		}
	}
}
