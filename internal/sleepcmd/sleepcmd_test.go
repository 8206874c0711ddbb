package sleepcmd_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/sleepcmd"
)

func TestSleep(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"0":          0,
		"5":          5 * time.Second,
		"0.25":       250 * time.Millisecond,
		"1s":         time.Second,
		"2m":         2 * time.Minute,
		"1.5h":       90 * time.Minute,
		"1d":         24 * time.Hour,
		"1m 30 0.5s": 90*time.Second + 500*time.Millisecond,
	} {
		t.Run(args, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var stderr bytes.Buffer
				code := sleepcmd.Run(t.Context(), strings.Fields(args), nil, nil, &stderr)
				if slept := time.Since(begin); code != 0 || slept != want || stderr.Len() > 0 {
					t.Errorf("exit code %d after %v, want 0 after %v; stderr %q", code, slept, want, stderr.String())
				}
			})
		})
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range []string{"", "x", "-1", "5x", "s", "NaN", "1 y"} {
		var stderr bytes.Buffer
		if code := sleepcmd.Run(t.Context(), strings.Fields(args), nil, nil, &stderr); code != 1 || stderr.Len() == 0 {
			t.Errorf("%q: exit code %d, stderr %q", args, code, stderr.String())
		}
	}
}

func TestEndsEarly(t *testing.T) {
	for _, args := range []string{"3600", "infinity", "1e400"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			code := sleepcmd.Run(ctx, []string{args}, nil, nil, nil)
			if slept := time.Since(begin); code != 143 || slept != time.Second {
				t.Errorf("%s: exit code %d after %v", args, code, slept)
			}
		})
	}
}
