package inject

import (
	"reflect"
	"testing"
)

func TestWithDefaults(t *testing.T) {
	defaults := map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": "b", "c": map[string]any{"z": 3}, "d": []any{1}}
	values := map[string]any{"a": map[string]any{"y": false, "own": 1}, "b": nil, "c": "no map", "d": []any{}}
	want := map[string]any{"a": map[string]any{"x": 1, "y": false, "own": 1}, "b": "b", "c": "no map", "d": []any{}}
	if got := WithDefaults(values, defaults); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !reflect.DeepEqual(defaults["a"], map[string]any{"x": 1, "y": 2}) || !reflect.DeepEqual(values["a"], map[string]any{"y": false, "own": 1}) {
		t.Errorf("arguments changed: %v, %v", defaults, values)
	}
}

// TestCloneSharesNothingThatChanges: a pod's annotations must not reach the next pod.
func TestCloneSharesNothingThatChanges(t *testing.T) {
	original := map[string]any{"a": map[string]any{"list": []any{map[string]any{"x": 1}}}}
	copied := clone(original).(map[string]any)
	set(copied, "a.new.path", true)
	get(copied, "a.list").([]any)[0].(map[string]any)["x"] = 2
	if want := map[string]any{"a": map[string]any{"list": []any{map[string]any{"x": 1}}}}; !reflect.DeepEqual(original, want) {
		t.Errorf("original is %v", original)
	}
}
