package logs

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/logfilter"
)

// newLog writes into the returned builder, at a time that stands still.
func newLog(t *testing.T, filter string, asJSON bool) (*Log, *strings.Builder, *time.Time) {
	t.Helper()
	var out strings.Builder
	now := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	l, err := New(Options{Out: &out, Filter: filter, JSON: asJSON, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return l, &out, &now
}

func TestPlain(t *testing.T) {
	l, out, now := newLog(t, "warn,linkerd=info", false)
	log := For(l.Logger(), "linkerd_app_inbound", "inbound", "server{port=8080}").With("client", "10.0.0.1:5")
	*now = now.Add(1234567 * time.Microsecond)
	log.Info("Connection denied", "reason", "two words", "error", errors.New("a: b: c"))
	log.Debug("not shown")
	For(l.Logger(), "hickory").Info("not shown")
	For(l.Logger(), "hickory").Warn("shown")
	want := `[     1.234567s]  INFO inbound:server{port=8080}: linkerd_app_inbound: Connection denied client=10.0.0.1:5 reason="two words" error=a: b: c
[     1.234567s]  WARN hickory: shown
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out, want)
	}
}

func TestJSON(t *testing.T) {
	l, out, _ := newLog(t, "info", true)
	For(l.Logger(), "linkerd_app", "inbound").Info("Certified identity", "id", "web", "attempt", 3)
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	fields := got["fields"].(map[string]any)
	if got["timestamp"] != "2026-01-02T03:04:05.678901Z" || got["level"] != "INFO" || got["target"] != "linkerd_app" ||
		fields["message"] != "Certified identity" || fields["id"] != "web" || fields["attempt"] != 3.0 || got["threadId"] == "" {
		t.Errorf("got %s", out)
	}
}

func TestFilterChanges(t *testing.T) {
	l, out, _ := newLog(t, "off", false)
	log := l.Logger()
	log.Error("one")
	if err := l.SetFilter("debug"); err != nil {
		t.Fatal(err)
	}
	log.Debug("two")
	if err := l.SetFilter("x=loud"); err == nil || l.Filter().String() != "debug" {
		t.Errorf("a bad filter replaced the old one: %v", err)
	}
	if got := out.String(); strings.Contains(got, "one") || !strings.Contains(got, "two") {
		t.Errorf("got %q", got)
	}
}

func TestSubscription(t *testing.T) {
	l, out, _ := newLog(t, "off", false)
	f, _ := logfilter.Parse("linkerd=debug")
	s := l.Subscribe(f)
	log := l.Logger()
	for range cap(s.events) + 3 {
		log.Debug("heard")
	}
	log.Log(t.Context(), logfilter.Trace, "too fine")
	if got := string(<-s.Events()); !strings.Contains(got, `"message":"heard"`) {
		t.Errorf("got %s", got)
	}
	if n := s.Dropped(); n != 3 {
		t.Errorf("%d dropped", n)
	}
	s.Close()
	s.Close()
	log.Debug("alone")
	if out.Len() != 0 || l.subs.active.Load() != 0 {
		t.Errorf("got %q", out)
	}
}
