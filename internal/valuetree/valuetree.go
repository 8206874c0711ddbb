// Package valuetree reads and changes trees of values: nested maps, lists and
// scalars as a YAML file gives them, in which a place is named by a path of keys
// joined by dots. Helm's values are such trees.
//
// The package keeps no state; its functions may be called from any goroutine as
// long as no two change the same tree.
package valuetree

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/yaml"
)

// Get returns the value at a path of keys joined by dots, nil when absent.
func Get(values map[string]any, path string) any {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := values[key].(map[string]any)
		if !ok {
			return nil
		}
		values = next
	}
	return values[keys[len(keys)-1]]
}

// String returns the value at path as text, empty when absent.
func String(values map[string]any, path string) string {
	switch v := Get(values, path).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// Bool returns the value at path; anything but true is false.
func Bool(values map[string]any, path string) bool {
	b, _ := Get(values, path).(bool)
	return b
}

// Set puts a value at path and makes the maps on the way.
func Set(values map[string]any, path string, value any) {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := values[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[key] = next
		}
		values = next
	}
	values[keys[len(keys)-1]] = value
}

// Merge lays over on top of base, map by map, changes base and returns it. A
// null stays a null: Helm then drops the chart's own value.
func Merge(base, over map[string]any) map[string]any {
	for key, value := range over {
		overMap, ok := value.(map[string]any)
		baseMap, both := base[key].(map[string]any)
		if ok && both {
			base[key] = Merge(baseMap, overMap)
			continue
		}
		base[key] = value
	}
	return base
}

// WithDefaults returns values with those of defaults where values has none. It shares what it does not change with both.
//
// A configuration may be older than the chart that is rendered with it: the CLI's is of another release often enough.
func WithDefaults(values, defaults map[string]any) map[string]any {
	out := make(map[string]any, max(len(values), len(defaults)))
	for key, value := range defaults {
		out[key] = value
	}
	for key, value := range values {
		if value == nil {
			continue
		}
		valueMap, isMap := value.(map[string]any)
		defaultMap, both := out[key].(map[string]any)
		if isMap && both {
			value = WithDefaults(valueMap, defaultMap)
		}
		out[key] = value
	}
	return out
}

// Difference returns what has to be laid over base to get values: maps are
// compared key by key, everything else, lists too, as a whole. A key that only
// base has comes back as null.
func Difference(base, values map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		before, ok := base[key]
		if !ok {
			out[key] = value
			continue
		}
		beforeMap, isMap := before.(map[string]any)
		valueMap, both := value.(map[string]any)
		if isMap && both {
			if d := Difference(beforeMap, valueMap); len(d) > 0 {
				out[key] = d
			}
			continue
		}
		if !equal(before, value) {
			out[key] = value
		}
	}
	for key, before := range base {
		if _, ok := values[key]; !ok && before != nil {
			out[key] = nil
		}
	}
	return out
}

// equal compares scalars by what they mean in YAML: a flag gives an int64
// where a file gives a float64.
func equal(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	ya, errA := yaml.Marshal(a)
	yb, errB := yaml.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(ya, yb)
}

// Copy returns a deep copy made of the types a YAML file gives.
func Copy(values map[string]any) (map[string]any, error) {
	data, err := yaml.Marshal(values)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	err = yaml.Unmarshal(data, &out)
	return out, err
}

// Clone copies maps and lists all the way down; what they hold is immutable.
func Clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = Clone(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = Clone(item)
		}
		return out
	default:
		return v
	}
}
