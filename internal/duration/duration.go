// Package duration reads durations the way the mesh's data-plane programs
// write them: a whole number and one unit, as in "10s" or "250ms".
//
// The functions are pure and may be called from any goroutine.
package duration

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrSyntax is returned for text that is not a duration or does not fit one.
var ErrSyntax = errors.New("not a duration (a whole number followed by ms, s, m, h or d)")

// units by suffix. Go's own parser is no help: it knows no days, but signs,
// fractions and sums, which the grammar leaves out.
var units = map[string]time.Duration{
	"ms": time.Millisecond,
	"s":  time.Second,
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  24 * time.Hour,
}

// Parse reads a duration (proxy chapter, section 2.1): digits and a unit, with
// blanks around but not between; the unit may be left out only for zero.
func Parse(text string) (time.Duration, error) {
	s := strings.TrimSpace(text)
	unit := strings.TrimLeft(s, "0123456789")
	n, err := strconv.ParseInt(s[:len(s)-len(unit)], 10, 64)
	if err != nil {
		return 0, ErrSyntax
	}
	if unit == "" && n == 0 {
		return 0, nil
	}
	u, ok := units[unit]
	if !ok || n > math.MaxInt64/int64(u) {
		return 0, ErrSyntax
	}
	return time.Duration(n) * u, nil
}

// A Value is a duration as a command-line flag; it has the methods that flag
// packages ask for.
type Value struct {
	// D is where the flag's value is kept.
	D *time.Duration
}

// String returns the value in the grammar of [Parse].
func (v Value) String() string {
	if v.D == nil || *v.D == 0 {
		return "0"
	}
	for _, unit := range []string{"d", "h", "m", "s"} {
		if u := units[unit]; *v.D%u == 0 {
			return strconv.FormatInt(int64(*v.D/u), 10) + unit
		}
	}
	return strconv.FormatInt(v.D.Milliseconds(), 10) + "ms"
}

// Set reads the value from a command line.
func (v Value) Set(text string) error {
	d, err := Parse(text)
	if err == nil {
		*v.D = d
	}
	return err
}

// Type names the kind of value in a command's help.
func (v Value) Type() string { return "duration" }
