package main

import "testing"

// The generated files on disk are those that the sources describe.
func TestUpToDate(t *testing.T) {
	if err := run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

func TestAttachPackageComment(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"comment", "// source: a\n\n// Package a is.\n// More.\n\npackage a\n", "// source: a\n\n// Package a is.\n// More.\npackage a\n"},
		{"other comment", "// source: a\n\npackage a\n", "// source: a\n\npackage a\n"},
	} {
		if got := string(attachPackageComment([]byte(c.in))); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
