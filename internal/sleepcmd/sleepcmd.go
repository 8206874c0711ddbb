// Package sleepcmd is the command sleep: it does nothing for a while.
//
// The proxy's preStop hook calls /bin/sleep (control-plane chapter, section
// 4.6), and the proxy's image holds nothing but the proxy's own program.
//
// [Run] may be called from any goroutine.
package sleepcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"syscall"
	"time"
)

// Name is what the command is called.
const Name = "sleep"

// Run waits for the sum of its arguments, each a number of seconds or, with the
// suffix m, h or d, of minutes, hours or days, and returns 0. It returns 1 on bad
// arguments, and early, with the code of a process ended by SIGTERM, when ctx
// ends.
func Run(ctx context.Context, args, _ []string, _, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "sleep: missing operand")
		return 1
	}
	total := 0.0
	for _, arg := range args {
		seconds, err := parse(arg)
		if err != nil {
			fmt.Fprintf(stderr, "sleep: invalid time interval %q\n", arg)
			return 1
		}
		total += seconds
	}
	// Longer than any machine lives is for ever.
	pause := time.Duration(math.MaxInt64)
	if total < pause.Seconds() {
		pause = time.Duration(total * float64(time.Second))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-ctx.Done():
		return 128 + int(syscall.SIGTERM)
	}
}

var errInterval = errors.New("not a time interval")

// parse returns a number of seconds, at least zero, possibly infinite.
func parse(arg string) (float64, error) {
	unit := 1.0
	if n := len(arg); n > 0 {
		switch arg[n-1] {
		case 's':
			arg = arg[:n-1]
		case 'm':
			unit, arg = 60, arg[:n-1]
		case 'h':
			unit, arg = 60*60, arg[:n-1]
		case 'd':
			unit, arg = 24*60*60, arg[:n-1]
		}
	}
	number, err := strconv.ParseFloat(arg, 64)
	// A number out of range comes with an error and as infinity.
	if err != nil && !errors.Is(err, strconv.ErrRange) || !(number >= 0) {
		return 0, errInterval
	}
	return number * unit, nil
}
