package metric

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/golden"
)

func TestText(t *testing.T) {
	r := NewRegistry(Options{Retain: time.Minute})
	requests := r.Legacy("request_total", "Total count of HTTP requests.")
	requests.Counter(Labels("direction", "inbound", "name", "a\"b\\c\nd")).Add(3)
	r.Legacy("tcp_open_connections", "Number of open connections.", Gauge).Gauge("").Add(2)
	latency := r.Legacy("response_latency_ms", "Elapsed times.", Buckets(1, 1, 2, 1000))
	h := latency.Histogram(Labels("direction", "inbound"))
	for _, v := range []uint64{0, 1, 2, 7, 5000} {
		h.Observe(v)
	}
	r.Open("outbound_http_route_request_duration_seconds", "The time of a request", Unit("seconds"), Buckets(1e9, 0.05, 0.5, 1, 10)).
		Histogram(Labels("parent_group", "")).ObserveDuration(1500 * time.Millisecond)
	r.Open("control_identity_cert_refreshes", "Refreshes").Counter(Labels("result", "ok")).Add(1)
	r.Open("process_start_time_seconds", "Start", Gauge, Unit("seconds")).Gauge("").Set(1767225600.25)
	r.Open("process_uptime_seconds", "Uptime", Unit("seconds")).Func("", func() float64 { return 2.5 })
	r.Open("never_used", "Nothing")
	golden.File(t, "testdata/text.txt", string(r.AppendText(nil)))
}

func TestExpiry(t *testing.T) {
	now := time.Unix(0, 0)
	r := NewRegistry(Options{Retain: 10 * time.Minute, Now: func() time.Time { return now }})
	f := r.Legacy("tcp_close_total", "Closed.", Expires)
	kept := r.Legacy("inbound_http_authz_deny_total", "Denied.")
	kept.Count(Labels("a", "1"))
	c := f.Counter(Labels("a", "1"))
	c.Add(1)
	has := func() bool { return strings.Contains(string(r.AppendText(nil)), "tcp_close_total{") }
	now = now.Add(time.Hour)
	if !has() {
		t.Error("a series vanished although it is held")
	}
	c.Release()
	now = now.Add(9 * time.Minute)
	if !has() {
		t.Error("a series vanished before its time")
	}
	f.Count(Labels("a", "1"))
	now = now.Add(9 * time.Minute)
	if !has() {
		t.Error("a series vanished although it changed")
	}
	now = now.Add(10 * time.Minute)
	r.Expire()
	if has() {
		t.Error("a series outlived its time")
	}
	if !strings.Contains(string(r.AppendText(nil)), "inbound_http_authz_deny_total{") {
		t.Error("a series that never expires vanished")
	}
	f.Count(Labels("a", "1"))
	if text := string(r.AppendText(nil)); !strings.Contains(text, "tcp_close_total{a=\"1\"} 1\n") {
		t.Errorf("a series that came back should begin anew: %s", text)
	}
}

func TestJoinLeavesNoEmptyPair(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"", ""}, ""},
		{[]string{`a="1"`, "", `b="2"`}, `a="1",b="2"`},
		{[]string{"", `a="1"`, ""}, `a="1"`},
	} {
		if got := Join(c.in...); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestHandlesDoNotAllocate(t *testing.T) {
	r := NewRegistry(Options{})
	c := r.Legacy("a", "A.").Counter("")
	h := r.Legacy("b", "B.", Buckets(1, 1, 2, 3, 4, 5, 6, 7, 8, 9)).Histogram("")
	g := r.Legacy("c", "C.", Gauge).Gauge("")
	if n := testing.AllocsPerRun(100, func() { c.Add(1); h.Observe(5); g.Add(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSeriesAreBounded: whatever peers put into labels, a family has so many
// series and no more; those in use stay.
func TestSeriesAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	r := NewRegistry(Options{Limit: 100, Now: func() time.Time { return now }})
	f := r.Open("x", "x")
	held := f.Counter(Labels("who", "held"))
	held.Add(5)
	for i := range 10_000 {
		now = now.Add(time.Second)
		f.Count(Labels("who", strconv.Itoa(i)))
	}
	text := string(r.AppendText(nil))
	if n := strings.Count(text, "x_total{"); n > 100 || n < 80 {
		t.Errorf("%d series", n)
	}
	for _, want := range []string{`x_total{who="held"} 5`, `x_total{who="9999"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, `who="0"`) || r.Dropped() < 9900 {
		t.Errorf("the oldest is still there, or not counted: %d", r.Dropped())
	}
	// If all are in use the new ones count nowhere, and come back in time.
	g := r.Open("y", "y")
	var all []Counter
	for i := range 150 {
		all = append(all, g.Counter(Labels("who", strconv.Itoa(i))))
	}
	for _, c := range all {
		c.Add(1)
	}
	if n := strings.Count(string(r.AppendText(nil)), "y_total{"); n != 100 {
		t.Errorf("%d series", n)
	}
	for _, c := range all {
		c.Release()
	}
	g.Count(Labels("who", "new"))
	if !strings.Contains(string(r.AppendText(nil)), `y_total{who="new"} 1`) {
		t.Error("there is no room although nobody holds anything")
	}
}
