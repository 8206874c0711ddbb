package capturecmd

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

func TestRateIsBoundedAndTold(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := rate{limit: 2}
	if hidden := r.ended(at); hidden != 0 {
		t.Errorf("%d packets left out before the first", hidden)
	}
	for i, want := range []bool{true, true, false, false, false} {
		if got := r.take(); got != want {
			t.Errorf("packet %d shown: %v", i, got)
		}
	}
	if hidden := r.ended(at.Add(999 * time.Millisecond)); hidden != 0 {
		t.Errorf("told of %d before the second was over", hidden)
	}
	if hidden := r.ended(at.Add(time.Second)); hidden != 3 {
		t.Errorf("told of %d packets, want 3", hidden)
	}
	if !r.take() {
		t.Error("nothing is shown in the next second")
	}
	unlimited := rate{}
	for range 1000 {
		if !unlimited.take() {
			t.Fatal("a packet is left out without a limit")
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--help", 0, "linkerd-debug capture [flags] [FILTER]"},
		{"-h", 0, "by direction"},
		{"--cuont 3", 2, "unknown flag: --cuont"},
		{"--count -1", 2, "must not be negative"},
		{"--snap 3", 2, "--snap must be from 64"},
		{"port http", 2, `not a port: "http"`},
	} {
		var out bytes.Buffer
		if code := Run(context.Background(), strings.Fields(c.args), &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("capture %s: exit code %d, output %q", c.args, code, out.String())
		}
	}
}
