package health

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// script returns a check function that gives one error after the other, the
// last again and again.
func script(errs ...error) func(context.Context) error {
	i := 0
	return func(context.Context) error {
		err := errs[min(i, len(errs)-1)]
		i++
		return err
	}
}

func TestRun(t *testing.T) {
	bad := errors.New("bad")
	cases := []struct {
		name    string
		checks  []Check
		wait    time.Duration
		want    []string
		outcome Outcome
		took    time.Duration
	}{
		{
			name:    "success and a note",
			checks:  []Check{{Description: "a", Run: script(nil)}, {Description: "b", Run: script(Note("more"))}},
			want:    []string{"ok a", "ok b\nmore"},
			outcome: Outcome{Success: true},
		},
		{
			name:    "skipped checks do not show",
			checks:  []Check{{Description: "a", Run: script(Skip)}, {Description: "b", Run: script(nil)}},
			want:    []string{"ok b"},
			outcome: Outcome{Success: true},
		},
		{
			name:    "an error lets the next run",
			checks:  []Check{{Description: "a", Run: script(bad)}, {Description: "b", Run: script(nil)}},
			want:    []string{"fail a: bad", "ok b"},
			outcome: Outcome{},
		},
		{
			name:    "a fatal error ends the run",
			checks:  []Check{{Description: "a", Fatal: true, Run: script(bad)}, {Description: "b", Run: script(nil)}},
			want:    []string{"fail a: bad"},
			outcome: Outcome{},
		},
		{
			name:    "a warning passes",
			checks:  []Check{{Description: "a", Warning: true, Run: script(bad)}},
			want:    []string{"warn a: bad"},
			outcome: Outcome{Success: true, Warnings: true},
		},
		{
			name:    "a retried check passes in the end",
			checks:  []Check{{Description: "a", Retry: true, Run: script(bad, bad, nil)}},
			wait:    time.Minute,
			want:    []string{"again a: waiting for check to complete", "again a: waiting for check to complete", "ok a"},
			outcome: Outcome{Success: true},
			took:    10 * time.Second,
		},
		{
			name:    "a surfaced retry shows its error, and the deadline ends it",
			checks:  []Check{{Description: "a", Retry: true, Surface: true, Run: script(bad)}},
			wait:    12 * time.Second,
			want:    []string{"again a: bad", "again a: bad", "fail a: bad"},
			outcome: Outcome{},
			took:    10 * time.Second,
		},
		{
			name:    "no time, no retry",
			checks:  []Check{{Description: "a", Retry: true, Run: script(bad)}},
			want:    []string{"fail a: bad"},
			outcome: Outcome{},
		},
		{
			name: "an attempt is cut off",
			checks: []Check{{Description: "a", Run: func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}}},
			want:    []string{"fail a: context deadline exceeded"},
			outcome: Outcome{},
			took:    AttemptTimeout,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var got []string
				outcome := Run(t.Context(), []Category{{ID: "c", Checks: c.checks}}, Options{Wait: c.wait, Now: time.Now, After: time.After}, func(r Result) {
					kind := "ok"
					switch {
					case r.Attempt:
						kind = "again"
					case r.Err != nil && r.Warning:
						kind = "warn"
					case r.Err != nil:
						kind = "fail"
					}
					line := kind + " " + r.Description
					if r.Err != nil {
						line += ": " + r.Err.Error()
					}
					got = append(got, line)
				})
				if strings.Join(got, "; ") != strings.Join(c.want, "; ") {
					t.Errorf("results are %q, want %q", got, c.want)
				}
				if outcome != c.outcome {
					t.Errorf("outcome is %+v, want %+v", outcome, c.outcome)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestPrinter(t *testing.T) {
	results := []Result{
		{Category: "one", Description: "a"},
		{Category: "one", Description: "b", Err: errors.New("waiting"), Attempt: true},
		{Category: "one", Description: "b", Err: errors.New("bad"), Hint: "https://example.com/#b"},
		{Category: "two", Description: "c", Err: errors.New("hm"), Warning: true},
	}
	cases := map[string]string{
		FormatTable: "one\n---\n√ a\n× b\n    bad\n    see https://example.com/#b for hints\n\ntwo\n---\n‼ c\n    hm\n\nStatus check results are ×\n",
		FormatShort: "one\n---\n× b\n    bad\n    see https://example.com/#b for hints\n\ntwo\n---\n‼ c\n    hm\n\nStatus check results are ×\n",
		FormatJSON: `{
  "success": false,
  "categories": [
    {
      "categoryName": "one",
      "checks": [
        {
          "description": "a",
          "result": "success"
        },
        {
          "description": "b",
          "hint": "https://example.com/#b",
          "error": "bad",
          "result": "error"
        }
      ]
    },
    {
      "categoryName": "two",
      "checks": [
        {
          "description": "c",
          "error": "hm",
          "result": "warning"
        }
      ]
    }
  ]
}
`,
	}
	for format, want := range cases {
		var out bytes.Buffer
		p := NewPrinter(&out, format, false)
		for _, r := range results {
			p.Observe(r)
		}
		if err := p.EndRun(Outcome{}); err != nil {
			t.Fatal(err)
		}
		p.Status(false)
		if out.String() != want {
			t.Errorf("%s output is\n%s\nwant\n%s", format, out.String(), want)
		}
		if format == FormatJSON {
			back, outcome, err := ReadResults(out.Bytes())
			if err != nil || len(back) != 3 || outcome.Success || !outcome.Warnings || back[1].Err.Error() != "bad" || !back[2].Warning {
				t.Errorf("read back: %+v %+v %v", back, outcome, err)
			}
		}
	}
	// Nothing to say is only the status.
	var out bytes.Buffer
	p := NewPrinter(&out, FormatShort, false)
	p.Observe(results[0])
	if err := p.EndRun(Outcome{Success: true}); err != nil {
		t.Fatal(err)
	}
	p.Status(true)
	if out.String() != "Status check results are √\n" {
		t.Errorf("short output is %q", out.String())
	}
}

func TestSpinnerOnTerminals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := NewPrinter(&out, FormatTable, true)
		p.Observe(Result{Category: "one", Description: "a", Err: errors.New("waiting"), Attempt: true})
		time.Sleep(250 * time.Millisecond)
		p.Observe(Result{Category: "one", Description: "a"})
		if got := out.String(); strings.Count(got, "a -- waiting") != 3 || !strings.Contains(got, "\x1b[1;32m√\x1b[0m a\n") {
			t.Errorf("output is %q", got)
		}
	})
}

func TestHintBase(t *testing.T) {
	for version, want := range map[string]string{
		"stable-2.14.3": "https://linkerd.io/2.14/checks/#",
		"edge-26.3.1":   "https://linkerd.io/2/checks/#",
		"dev-undefined": "https://linkerd.io/2/checks/#",
	} {
		if got := HintBase(version); got != want {
			t.Errorf("hints of %s are at %s, want %s", version, got, want)
		}
	}
}
