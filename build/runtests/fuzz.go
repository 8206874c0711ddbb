package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// fuzzRuns is how often each fuzz target runs here, a second or two: enough to
// find what a change to a parser breaks at once. It is a number and not a time,
// for on a busy machine the end of the time can fall into a run and fail it. For
// more, run `go test -fuzz` by hand.
const fuzzRuns = "10000x"

// fuzzTarget is one fuzz test.
type fuzzTarget struct{ pkg, name string }

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// fuzzTargets finds the fuzz tests of the proxy and of what it is sent: those are
// the parsers that face a network.
func fuzzTargets(root string) ([]fuzzTarget, error) {
	var all []fuzzTarget
	for _, room := range []string{"api", "proxy"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
				dir, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				all = append(all, fuzzTarget{"./" + filepath.ToSlash(dir), string(m[1])})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("find fuzz targets: %w", err)
		}
	}
	return all, nil
}

// fuzz runs every fuzz target for a bounded while.
func (r *runner) fuzz(ctx context.Context) error {
	if r.filter != "" {
		return nil // it chooses tests
	}
	targets, err := fuzzTargets(".")
	if err != nil {
		return err
	}
	r.say("%d fuzz targets, %s each", len(targets), fuzzRuns)
	for _, t := range targets {
		if err := r.goTest(ctx, ".", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", fuzzRuns, t.pkg); err != nil {
			return err
		}
	}
	return nil
}
