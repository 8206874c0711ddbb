// Package valueschema holds values of a Helm chart against the chart's
// values.schema.json, and says in words what does not fit. Helm itself checks
// values with the same library and the same file; its message is a list of
// rules that were broken, while here one sentence names the value and what it
// has to be: the title of its place in the schema.
//
// Usage:
//
//	misfits, err := valueschema.Check(schema, values)
//	for _, m := range misfits { fmt.Println(m) }
//
// The package keeps no state; Check may be called from any goroutine, as long as
// nobody changes the values meanwhile.
package valueschema

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Misfit is a value that the schema refuses.
type Misfit struct {
	// Path of the value: keys joined by dots, and the index of an element of a list.
	Path string
	// Got is the value, Want says what it would have to be, as in "is not a number".
	Got  any
	Want string
	// Kind is set if the value is of another kind than it has to be, a map for a
	// number for instance, and not only out of a range or a set.
	Kind bool
}

// Error implements error.
func (m Misfit) Error() string {
	return fmt.Sprintf("value %s: %s is not %s", m.Path, shown(m.Got), m.Want)
}

func shown(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}

// Check returns what does not fit, sorted by path, one Misfit for each value. An
// error says that the schema itself, or a value that no YAML file could give,
// cannot be read. Nothing is required: a part of the values may be checked alone.
func Check(schema []byte, values map[string]any) ([]Misfit, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	const name = "values.schema.json"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// Flags give lists of texts and the like, which the library does not know.
	plain, err := valuetree.Copy(values)
	if err != nil {
		return nil, err
	}
	var invalid *jsonschema.ValidationError
	if err := compiled.Validate(plain); err == nil {
		return nil, nil
	} else if !errors.As(err, &invalid) {
		return nil, err
	}
	found := map[string]Misfit{}
	collect(invalid, func(leaf *jsonschema.ValidationError) {
		m := misfit(document, plain, leaf)
		// A value may break several rules, of which its kind says the most.
		if before, ok := found[m.Path]; !ok || !before.Kind {
			found[m.Path] = m
		}
	})
	out := make([]Misfit, 0, len(found))
	for _, m := range found {
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// collect calls see for the rules that were broken, without those that only say
// that one below was.
func collect(e *jsonschema.ValidationError, see func(*jsonschema.ValidationError)) {
	if len(e.Causes) == 0 {
		see(e)
	}
	for _, cause := range e.Causes {
		collect(cause, see)
	}
}

func misfit(schema, values any, leaf *jsonschema.ValidationError) Misfit {
	place, got := schema, values
	for _, key := range leaf.InstanceLocation {
		place = below(place, key)
		got = child(got, key)
	}
	m := Misfit{Path: strings.Join(leaf.InstanceLocation, "."), Got: got}
	node, _ := place.(map[string]any)
	m.Want, _ = node["title"].(string)
	if m.Want == "" {
		m.Want = "what the chart takes"
	}
	_, m.Kind = leaf.ErrorKind.(*kind.Type)
	// Numbers may be given as texts, by --set-string, and then only a pattern
	// tells those that are none.
	if types, _ := node["type"].([]any); len(types) > 0 && (types[0] == "integer" || types[0] == "number") {
		_, text := got.(string)
		m.Kind = m.Kind || text
	}
	return m
}

// below is the schema of one key, or of an element, of what a schema is for.
func below(schema any, key string) any {
	node, _ := schema.(map[string]any)
	if properties, _ := node["properties"].(map[string]any); properties[key] != nil {
		return properties[key]
	}
	if items := node["items"]; items != nil {
		return items
	}
	return node["additionalProperties"]
}

func child(value any, key string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[key]
	case []any:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	return nil
}
