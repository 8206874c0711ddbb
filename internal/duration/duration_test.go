package duration_test

import (
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/duration"
)

func TestParse(t *testing.T) {
	good := map[string]time.Duration{
		"0":          0,
		" 0 ":        0,
		"0s":         0,
		"250ms":      250 * time.Millisecond,
		"10s":        10 * time.Second,
		" 2m\t":      2 * time.Minute,
		"1h":         time.Hour,
		"7d":         7 * 24 * time.Hour,
		"106751d":    106751 * 24 * time.Hour,
		"000000001s": time.Second,
	}
	for text, want := range good {
		if got, err := duration.Parse(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "s", "10", "-1s", "+1s", "1.5s", "1 s", "1us", "1S", "1h30m", "106752d", "99999999999999999999s", "0x1s"} {
		if got, err := duration.Parse(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestValue(t *testing.T) {
	for _, text := range []string{"0", "1ms", "1500ms", "90s", "2m", "36h", "3d"} {
		var d time.Duration
		v := duration.Value{D: &d}
		if err := v.Set(text); err != nil || v.String() != text {
			t.Errorf("%q comes back as %q, %v", text, v, err)
		}
	}
	d := time.Second
	if err := (duration.Value{D: &d}).Set("nonsense"); err == nil || d != time.Second {
		t.Errorf("a bad value: error %v, value now %v", err, d)
	}
}
