package lab

import (
	"os"
	"testing"
)

func TestSwitches(t *testing.T) {
	const status = "Name:\tproxy\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n"
	if n := switches([]byte(status)); n != 42 {
		t.Errorf("got %d", n)
	}
	if n, err := Switches(os.Getpid()); err != nil || n == 0 {
		t.Errorf("this process: %d, %v", n, err)
	}
}
