package unsteady

import "testing"

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		ok           bool
	}{
		{"TestA", "within a second", true},
		{"TestA/sub", "within a second", false},
		{"TestA", "", false},
		{"TestA", "two\nlines", false},
	} {
		if err := check(c.name, c.reason); (err == nil) != c.ok {
			t.Errorf("%s for %q: %v", c.name, c.reason, err)
		}
	}
}

// log takes what a test logs.
type log struct {
	testing.TB
	name, text string
}

func (l *log) Helper()         {}
func (l *log) Name() string    { return l.name }
func (l *log) Log(args ...any) { l.text = args[0].(string) }

func TestMarkLogs(t *testing.T) {
	l := &log{name: "TestA"}
	Mark(l, "within a second")
	if l.text != "unsteady: within a second" {
		t.Errorf("logged %q", l.text)
	}
}
