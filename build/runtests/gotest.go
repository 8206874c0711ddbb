package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// counts are tests by how they ended. A test with subtests counts once for
// each of them and not for itself.
type counts struct{ passed, failed, skipped int }

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// goTest runs `go test` in a directory and counts and prints its results. The
// error says that the tests could not be run; that some failed is in the
// counts.
func (r *runner) goTest(ctx context.Context, dir string, args ...string) error {
	var env []string
	if dir == clusterModule {
		env = []string{"CGO_ENABLED=0"}
	}
	return r.goTestWith(ctx, dir, env, args...)
}

// goTestWith is goTest with additions to the environment.
func (r *runner) goTestWith(ctx context.Context, dir string, env []string, args ...string) error {
	args = append([]string{"test", "-json"}, args...)
	if r.filter != "" {
		args = append(args, "-run", r.filter)
	}
	cmd := command(ctx, dir, "go", args...)
	cmd.Stdout = nil
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &printer{out: os.Stdout, tests: map[string]*result{}, blamed: map[string]bool{}}
	before := r.count.failed
	readErr := p.read(out)
	r.count.passed += p.passed
	r.count.failed += p.failed
	r.count.skipped += p.skipped
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return readErr
	case errors.As(err, &exit) && r.count.failed > before:
		return nil // said already
	case err != nil:
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// result is what is known of a test, or of a package under its bare name.
type result struct {
	output []string
	parent bool // has subtests
}

// printer turns the events into lines for a reader.
type printer struct {
	counts
	out   io.Writer
	tests map[string]*result
	// blamed are packages of which a failed test was counted.
	blamed map[string]bool
}

func (p *printer) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				p.add(e)
			} else {
				fmt.Fprintf(p.out, "  %s", line)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *printer) get(e event) *result {
	key := e.Package + " " + e.Test
	t := p.tests[key]
	if t == nil {
		t = &result{}
		p.tests[key] = t
	}
	return t
}

func (p *printer) add(e event) {
	switch e.Action {
	case "build-output":
		fmt.Fprintf(p.out, "  %s", e.Output)
	case "build-fail":
		p.failed++
		// The package's own event names it without the variant in brackets.
		name, _, _ := strings.Cut(e.ImportPath, " ")
		p.blamed[name] = true
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			parent := e
			parent.Test = e.Test[:i]
			p.get(parent).parent = true
		}
	case "output":
		t := p.get(e)
		t.output = append(t.output, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			p.packageDone(e)
		} else {
			p.testDone(e)
		}
	}
}

func (p *printer) testDone(e event) {
	t := p.get(e)
	if !t.parent {
		switch e.Action {
		case "pass":
			p.passed++
		case "skip":
			p.skipped++
		}
	}
	switch {
	case e.Action == "fail":
		p.failed++
		p.blamed[e.Package] = true
		fmt.Fprintf(p.out, "  FAIL  %s %s (%.1fs)\n", e.Package, e.Test, e.Elapsed)
		p.show(t)
	case e.Action == "skip":
		fmt.Fprintf(p.out, "  skip  %s %s\n", e.Package, e.Test)
		p.show(t)
	case strings.Contains(e.Package, "/test/e2e"):
		// These take minutes: a line each shows that it goes on.
		fmt.Fprintf(p.out, "  ok    %s (%.1fs)\n", e.Test, e.Elapsed)
	}
	t.output = nil
}

func (p *printer) packageDone(e event) {
	t := p.get(e)
	switch e.Action {
	case "pass":
		fmt.Fprintf(p.out, "  ok    %s (%.1fs)\n", e.Package, e.Elapsed)
	case "fail":
		fmt.Fprintf(p.out, "  FAIL  %s (%.1fs)\n", e.Package, e.Elapsed)
		p.show(t)
		if !p.blamed[e.Package] {
			// It died outside of any test: a panic, a race, a leak.
			p.failed++
		}
	}
	t.output = nil
}

func (p *printer) show(t *result) {
	for _, l := range t.output {
		if s := strings.TrimSpace(l); strings.HasPrefix(s, "=== ") || s == "PASS" || s == "FAIL" {
			continue
		}
		fmt.Fprintf(p.out, "        %s", l)
	}
}
