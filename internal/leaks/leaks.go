// Package leaks fails a package's tests if goroutines are left when they have
// passed. It is for tests only:
//
//	func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }
//
// It is go.uber.org/goleak with patience: that gives goroutines less than half a
// second to end, which those of a connection that was just closed may not get
// from a busy machine. Who is still there after half a minute stays.
package leaks

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end. It bounds a leak's report and
// nothing else: tests that leak nothing do not wait.
const patience = 30 * time.Second

// M are the tests of a package, as *testing.M has them.
type M interface{ Run() int }

// VerifyTestMain runs a package's tests, looks for goroutines that they left if
// they have passed, and exits. It is called from TestMain.
func VerifyTestMain(m M) { os.Exit(Verified(m).Run()) }

// Verified is m with the look for goroutines that are left, for a TestMain that
// hands its tests on, to testscript say.
func Verified(m M) M { return verified{m} }

type verified struct{ M }

// Run implements M.
func (v verified) Run() int {
	code := v.M.Run()
	if code != 0 {
		return code
	}
	if err := Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests: %v\n", err)
		return 1
	}
	return 0
}

// Find returns an error with the stacks of goroutines other than the caller's
// that do not end.
func Find() error { return wait(func() error { return goleak.Find() }) }

// wait calls find until it finds nothing, or patience ends.
func wait(find func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := find()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
