package inject

import (
	"fmt"
	"strings"
)

// get returns the value at a path of keys joined by dots, nil when absent.
func get(values map[string]any, path string) any {
	var current any = values
	for key := range strings.SplitSeq(path, ".") {
		level, ok := current.(map[string]any)
		if !ok {
			return nil
		}
		current = level[key]
	}
	return current
}

// getString returns the value at a path as text, empty when absent.
func getString(values map[string]any, path string) string {
	switch v := get(values, path).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// getBool returns the value at a path; anything but true is false.
func getBool(values map[string]any, path string) bool {
	b, _ := get(values, path).(bool)
	return b
}

// set puts a value at a path and makes the maps on the way.
func set(values map[string]any, path string, value any) {
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

// clone copies maps and lists all the way down; what they hold is immutable.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = clone(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = clone(item)
		}
		return out
	default:
		return v
	}
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
