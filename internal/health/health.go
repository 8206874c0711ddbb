// Package health runs checks and prints their results. Checks are data: what
// is looked at, where to read on, and a function; the packages that know a
// subject list them by category (CLI chapter, sections 4.3 and 4.4).
//
// Usage:
//
//	results := health.Run(ctx, categories, health.Options{Wait: 5 * time.Minute, ...}, printer)
//	printer.Finish(...)
//
// A run is sequential: check functions are called one after the other from the
// goroutine of Run, so they may share what earlier ones found out.
package health

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Check is one question about the cluster.
type Check struct {
	// Description is printed as it is and known to scripts.
	Description string
	// Anchor is where the documentation explains a failure; empty for none.
	Anchor string
	// Fatal ends the run on failure.
	Fatal bool
	// Warning keeps a failure from making the run fail.
	Warning bool
	// Retry repeats the check until it passes or the deadline is reached.
	Retry bool
	// Surface shows the error of a failed attempt while retrying.
	Surface bool
	// Run returns nil, a Skip, a Note, or what is wrong.
	Run func(ctx context.Context) error
}

// Category is a group of checks with a name.
type Category struct {
	ID     string
	Checks []Check
}

// Skip leaves a check out of the results: its subject does not exist here.
var Skip = errors.New("skip")

// Note is a success with something to add.
type Note string

func (n Note) Error() string { return string(n) }

// Result is what became of one check, or of one attempt.
type Result struct {
	Category    string
	Description string
	// Hint is a complete URL, empty for none.
	Hint string
	// Err is nil for a success.
	Err     error
	Warning bool
	// Attempt marks a failure that will be tried again.
	Attempt bool
}

// Timing of the engine.
const (
	// AttemptTimeout bounds one attempt of one check.
	AttemptTimeout = 30 * time.Second
	// RetryInterval is the pause between attempts.
	RetryInterval = 5 * time.Second
)

// Options of a run.
type Options struct {
	// HintBase is what anchors are appended to.
	HintBase string
	// Wait is how long checks with Retry are repeated, counted from the start
	// of the run.
	Wait time.Duration
	// Now and After are the clock.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// Outcome of a run.
type Outcome struct {
	// Success says that nothing failed, warnings aside.
	Success bool
	// Warnings says that something was worth a warning.
	Warnings bool
}

// Observe is told each result, attempts included, in order.
type Observe func(Result)

// Run runs the checks of the categories in order.
func Run(ctx context.Context, categories []Category, o Options, observe Observe) Outcome {
	outcome := Outcome{Success: true}
	deadline := o.Now().Add(o.Wait)
	for _, category := range categories {
		for _, check := range category.Checks {
			ok := runOne(ctx, category.ID, check, o, deadline, observe, &outcome)
			if !ok && check.Fatal {
				return outcome
			}
			if ctx.Err() != nil {
				outcome.Success = false
				return outcome
			}
		}
	}
	return outcome
}

func runOne(ctx context.Context, category string, c Check, o Options, deadline time.Time, observe Observe, outcome *Outcome) bool {
	result := Result{Category: category, Description: c.Description, Warning: c.Warning}
	if c.Anchor != "" {
		result.Hint = o.HintBase + c.Anchor
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, AttemptTimeout)
		err := c.Run(attempt)
		cancel()
		if errors.Is(err, Skip) {
			return true
		}
		var note Note
		if errors.As(err, &note) {
			result.Description += "\n" + string(note)
			err = nil
		}
		if err != nil && c.Retry && o.Now().Add(RetryInterval).Before(deadline) {
			waiting := result
			waiting.Attempt = true
			waiting.Err = errors.New("waiting for check to complete")
			if c.Surface {
				waiting.Err = err
			}
			observe(waiting)
			select {
			case <-o.After(RetryInterval):
				continue
			case <-ctx.Done():
			}
		}
		result.Err = err
		observe(result)
		if err == nil {
			return true
		}
		if c.Warning {
			outcome.Warnings = true
		} else {
			outcome.Success = false
		}
		return false
	}
}

var stableMinor = regexp.MustCompile(`^stable-2\.(\d+)\.`)

// HintBase returns where hints for a client of that version are.
func HintBase(version string) string {
	if m := stableMinor.FindStringSubmatch(version); m != nil {
		return fmt.Sprintf("https://linkerd.io/2.%s/checks/#", m[1])
	}
	return "https://linkerd.io/2/checks/#"
}
