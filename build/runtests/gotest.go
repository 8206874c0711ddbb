package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/internal/unsteady"
)

// counts are tests by how they ended. A test with subtests counts once for
// each of them and not for itself.
type counts struct{ passed, failed, skipped int }

func (c counts) plus(d counts) counts {
	return counts{c.passed + d.passed, c.failed + d.failed, c.skipped + d.skipped}
}

func (c counts) minus(d counts) counts {
	return counts{c.passed - d.passed, c.failed - d.failed, c.skipped - d.skipped}
}

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

// goTestWith is goTest with additions to the environment. Of tests that failed,
// those that are marked as unsteady run once more.
func (r *runner) goTestWith(ctx context.Context, dir string, env []string, args ...string) error {
	if r.filter != "" {
		args = append(slices.Clone(args), "-run", r.filter)
	}
	p, err := r.goTestOnce(ctx, dir, env, args)
	defer func() { r.count = r.count.plus(p.counts) }()
	for _, u := range p.unsteady() {
		fmt.Fprintf(r.out(), "  again %s %s, alone: %s\n", u.pkg, u.test, u.reason)
		again, errAgain := r.goTestOnce(ctx, dir, env, alone(args, u))
		if errAgain != nil {
			return errAgain
		}
		if again.failed == 0 && again.passed > 0 {
			p.counts = p.minus(u.counts).plus(again.counts)
			r.unsteady = append(r.unsteady, u)
		}
	}
	return err
}

// alone are the arguments that run one test of those that others ran.
func alone(args []string, u unsteadyTest) []string {
	var flags []string
	for _, a := range args {
		// What is not a package is a flag or its value.
		if !strings.HasPrefix(a, "./") {
			flags = append(flags, a)
		}
	}
	// Of a flag that is there twice, the last counts.
	return append(flags, "-run", "^"+u.test+"$", "-count=1", u.pkg)
}

// goTestOnce runs `go test` and prints its results. The error says that the tests
// could not be run; that some failed is in the printer's counts.
func (r *runner) goTestOnce(ctx context.Context, dir string, env, args []string) (*printer, error) {
	p := &printer{out: r.out(), tests: map[string]*result{}, blamed: map[string]bool{}}
	args = append([]string{"test", "-json"}, args...)
	cmd := command(ctx, dir, "go", args...)
	cmd.Stdout = nil
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return p, err
	}
	if err := cmd.Start(); err != nil {
		return p, err
	}
	readErr := p.read(out)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case readErr != nil:
		return p, readErr
	case errors.As(err, &exit) && p.failed > 0:
		return p, nil // said already
	case err != nil:
		return p, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return p, nil
}

// result is what is known of a test, or of a package under its bare name.
type result struct {
	output []string
	parent bool // has subtests
	// What follows is of packages and of whole tests, those with a name without
	// a slash, and includes their subtests.
	counts
	// unsteady is the reason why the test is marked, if it is.
	unsteady string
	// broken is true if there is more to it than a test that failed.
	broken bool
}

// unsteadyTest is a test that is marked, and how it ended.
type unsteadyTest struct {
	pkg, test, reason string
	counts
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
		if m := mark.FindStringSubmatch(e.Output); m != nil {
			p.whole(e).unsteady = m[1]
		}
		if broken.MatchString(e.Output) {
			p.whole(e).broken = true
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			p.packageDone(e)
		} else {
			p.testDone(e)
		}
	}
}

// mark is what a test logs that is marked with package unsteady; broken is what
// makes no test unsteady.
var (
	mark   = regexp.MustCompile(`^\s*\S+\.go:\d+: ` + unsteady.Prefix + `(.+)`)
	broken = regexp.MustCompile(`DATA RACE|race detected during execution|^panic: |^fatal error: |\[recovered\]|goroutines? (is|are) left|unexpected goroutines|buffers were not freed`)
)

// whole is the test that an event is about, or that whose subtest it is about; or
// the package.
func (p *printer) whole(e event) *result {
	e.Test, _, _ = strings.Cut(e.Test, "/")
	return p.get(e)
}

// unsteady returns the tests that failed and may run once more, in the order of
// their names. There are none in a package that broke: not all of its tests have
// run.
func (p *printer) unsteady() []unsteadyTest {
	var list []unsteadyTest
	for key, t := range p.tests {
		pkg, test, _ := strings.Cut(key, " ")
		if whole := p.tests[pkg+" "]; t.unsteady == "" || t.failed == 0 || t.broken || whole != nil && whole.broken {
			continue
		}
		list = append(list, unsteadyTest{pkg, test, t.unsteady, t.counts})
	}
	slices.SortFunc(list, func(a, b unsteadyTest) int { return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test)) })
	return list
}

func (p *printer) testDone(e event) {
	t := p.get(e)
	var c counts
	switch {
	case e.Action == "fail":
		c.failed = 1
	case t.parent:
	case e.Action == "pass":
		c.passed = 1
	case e.Action == "skip":
		c.skipped = 1
	}
	p.counts = p.plus(c)
	whole := p.whole(e)
	whole.counts = whole.plus(c)
	switch {
	case e.Action == "fail":
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
