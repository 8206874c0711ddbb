// Package unsteady marks tests that may fail without a fault, because their
// subject is time on a machine that others use too:
//
//	func TestScaling(t *testing.T) {
//		unsteady.Mark(t, "a new endpoint has to be in use within a second")
//		...
//
// build/runtests runs a marked test that has failed once more, alone, and says so
// at its end. It does that for no other test, and not for one that raced, leaked
// or panicked: those are faults on any machine. A test that can wait for an event,
// or for virtual time, is mended instead of marked. docs/testing.md lists the tests
// that are marked.
package unsteady

import (
	"fmt"
	"strings"
	"testing"
)

// Prefix begins what a marked test logs. The reason follows.
const Prefix = "unsteady: "

// Mark marks a test. The reason says what the machine can get in the way of. It
// is for tests, not for subtests, and is called first in them, from their
// goroutine.
func Mark(t testing.TB, reason string) {
	t.Helper()
	if err := check(t.Name(), reason); err != nil {
		t.Fatal(err)
	}
	t.Log(Prefix + reason)
}

// check returns what is wrong with a mark.
func check(name, reason string) error {
	switch {
	case strings.Contains(name, "/"):
		return fmt.Errorf("%s is a subtest: the whole test has to be marked, which is what is run again", name)
	case reason == "" || strings.ContainsAny(reason, "\r\n"):
		return fmt.Errorf("the reason %q is not one line", reason)
	}
	return nil
}
