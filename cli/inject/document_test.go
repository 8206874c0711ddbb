package inject

import (
	"slices"
	"testing"
)

func TestSplit(t *testing.T) {
	type doc struct {
		text string
		line int
	}
	for name, c := range map[string]struct {
		input string
		want  []doc
	}{
		"nothing":                 {"", nil},
		"blanks":                  {"\n---\n \n---\n", nil},
		"one":                     {"a: 1\n", []doc{{"a: 1", 1}}},
		"separator first":         {"---\na: 1\n", []doc{{"a: 1", 2}}},
		"two":                     {"a: 1\n---\nb: 1\nc: 1", []doc{{"a: 1", 1}, {"b: 1\nc: 1", 3}}},
		"Windows":                 {"a: 1\r\n---\r\nb: 1\r\n", []doc{{"a: 1", 1}, {"b: 1", 3}}},
		"comment at separator":    {"a: 1\n--- # second\nb: 1\n", []doc{{"a: 1", 1}, {"# second\nb: 1", 2}}},
		"content at separator":    {"--- {a: 1}\n", []doc{{"{a: 1}", 1}}},
		"end mark":                {"a: 1\n...\n---\nb: 1\n", []doc{{"a: 1", 1}, {"b: 1", 4}}},
		"dashes in a value":       {"a: |\n  ---\nb: ---\n----: 1\n", []doc{{"a: |\n  ---\nb: ---\n----: 1", 1}}},
		"JSON stream":             {"{\"a\":1}\n{\"b\":1} {\"c\":1}\n", []doc{{`{"a":1}`, 1}, {`{"b":1}`, 1}, {`{"c":1}`, 1}}},
		"flow mapping, not JSON":  {"{a: 1}\n", []doc{{"{a: 1}", 1}}},
		"JSON between separators": {"---\n{\"a\":1}\n---\nb: 1\n", []doc{{`{"a":1}`, 2}, {"b: 1", 4}}},
	} {
		var got []doc
		for i, d := range split([]byte(c.input)) {
			got = append(got, doc{string(d.text), d.line})
			if d.number != i+1 {
				t.Errorf("%s: document %d has number %d", name, i+1, d.number)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
