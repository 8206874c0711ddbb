package breaker

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// TestTranscripts runs the scripts in testdata. Lines without indentation are
// commands, the indented lines after them what happened:
//
//	new consecutive max=3 | unified max=3 threshold=8000 window=10s min=5    then backoff=1s..60s, hints=heeded
//	ok, fail, limit [n]     n responses
//	ok probe, fail probe    the response of the probe sent last, or, with before, of that before it
//	... after=5s            the server asks to be left alone for so long
//	send                    asks for admission
//	return                  the probe ended without outcome
//	leave 2 of 4            the breakers of 4 endpoints have to leave 2 in; comes before new
//	other out, other in     what the breakers of other endpoints do
//	close                   the endpoint is gone
//	wait 5s                 lets time pass
func TestTranscripts(t *testing.T) {
	golden.Files(t, "testdata", ".txt", func(t *testing.T, text string) string { return string(play(t, []byte(text))) })
}

func play(t *testing.T, script []byte) []byte {
	var out bytes.Buffer
	start := time.Unix(1000, 0)
	now := start
	var b *Breaker
	var probes []Probe
	var limit *Limit
	say := func(format string, a ...any) { fmt.Fprintf(&out, "    "+format+"\n", a...) }
	last := Open
	show := func() {
		if s := b.State(); s != last {
			last = s
			if at, ok := b.Until(); ok {
				say("%v shut until %v", now.Sub(start), at.Sub(start))
			} else {
				say("%v %v", now.Sub(start), s)
			}
		}
	}
	sc := bufio.NewScanner(bytes.NewReader(script))
	for sc.Scan() {
		line := sc.Text()
		if strings.HasPrefix(line, "    ") {
			continue
		}
		out.WriteString(line + "\n")
		if i := strings.IndexByte(line, '#'); i >= 0 {
			line = line[:i]
		}
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		n := 1
		var report Report
		for i, word := range w[1:] {
			if k, err := strconv.Atoi(word); err == nil {
				n = k
			}
			if after, ok := strings.CutPrefix(word, "after="); ok {
				report.RetryAfter, _ = time.ParseDuration(after)
			}
			if word == "probe" {
				report.Probe = probes[len(probes)-1]
				if i+2 < len(w) && w[i+2] == "before" {
					report.Probe = probes[len(probes)-2]
				}
			}
		}
		switch w[0] {
		case "new":
			cfg := config(t, w[1:])
			b, last = New(&cfg, limit, func() float64 { return 0 }), Open
		case "leave":
			var all int
			var e model.Ejection
			if _, err := fmt.Sscanf(line, "leave %d of %d", &e.Count, &all); err != nil {
				t.Fatal(err)
			}
			limit = NewLimit(e)
			limit.Resize(all, all)
		case "other":
			if w[1] == "out" && !limit.take() {
				say("not permitted")
			} else if w[1] == "in" {
				limit.give()
			}
		case "close":
			b.Close()
		case "ok", "fail", "limit":
			report.Outcome = map[string]Outcome{"ok": Success, "fail": Failure, "limit": RateLimited}[w[0]]
			for range n {
				b.Record(now, report)
				show()
			}
		case "send":
			avail := b.Available()
			ok, probe := b.Admit()
			if ok != avail {
				t.Errorf("available %v, admitted %v", avail, ok)
			}
			switch {
			case probe != 0:
				probes = append(probes, probe)
				b.Advance(now)
				say("probe")
			case ok:
				say("admitted")
			default:
				say("refused")
			}
		case "return":
			b.Return(probes[len(probes)-1])
		case "wait":
			d, err := time.ParseDuration(w[1])
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
			if limited := b.State() == Limited; b.Advance(now) && limited {
				say("%v another probe", now.Sub(start))
			}
			show()
		default:
			t.Fatalf("unknown command %q", line)
		}
	}
	return out.Bytes()
}

func config(t *testing.T, words []string) (c model.FailureAccrual) {
	c.Unified = words[0] == "unified"
	c.Window = 10 * time.Second
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "max":
			c.MaxConsecutive = uint32(n)
		case "threshold":
			c.Threshold = uint32(n)
		case "min":
			c.MinRequests = uint32(n)
		case "window":
			c.Window, _ = time.ParseDuration(v)
		case "hints":
			c.RetryAfter = v == "heeded"
		case "backoff":
			lo, hi, _ := strings.Cut(v, "..")
			c.Backoff.Min, _ = time.ParseDuration(lo)
			c.Backoff.Max, _ = time.ParseDuration(hi)
		default:
			t.Fatalf("unknown setting %q", w)
		}
	}
	return c
}

func TestNilBreakerIsOpen(t *testing.T) {
	var b *Breaker = New(nil, nil, nil)
	if ok, probe := b.Admit(); !ok || probe != 0 || !b.Available() || b.Record(time.Now(), Report{Outcome: Failure}) || b.Advance(time.Now()) || b.Hints() {
		t.Error("nil breaker interferes")
	}
	b.Return(0)
	b.Close()
}
