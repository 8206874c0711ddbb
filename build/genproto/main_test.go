package main

import "testing"

// The generated files on disk are those that the sources describe.
func TestUpToDate(t *testing.T) {
	if err := run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

func TestDiff(t *testing.T) {
	have := map[string][]byte{"same": []byte("1"), "changed": []byte("1"), "stale": []byte("1")}
	want := map[string][]byte{"same": []byte("1"), "changed": []byte("2"), "new": []byte("1")}
	got := diff(have, want)
	if len(got) != 3 || got[0] != "changed" || got[1] != "new" || got[2] != "stale" {
		t.Fatalf("got %v, want changed, new, stale", got)
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
