package retry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestWanted(t *testing.T) {
	r := &model.Retry{Statuses: []model.StatusRange{{Min: 500, Max: 599}}, Codes: model.Codes(14)}
	for _, c := range []struct {
		status         int
		head, trailers string
		want           bool
	}{
		{200, "", "", false}, {503, "", "", true}, {200, "14", "", true}, {200, "", "14", true},
		{200, "", "13", false}, {200, "0", "14", false}, {200, "x", "", false},
	} {
		head := exchange.ResponseHead{Status: c.status}
		if c.head != "" {
			head.Add("grpc-status", c.head)
		}
		var trailers *exchange.Fields
		if c.trailers != "" {
			trailers = new(exchange.Fields)
			trailers.Add("grpc-status", c.trailers)
		}
		if got := Wanted(r, &head, trailers); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("backend: %w", balance.ErrFailfast), true},
		{&deadline.Error{Kind: deadline.ResponseHeaders}, true},
		{&exchange.ResetError{Code: exchange.CodeRefusedStream}, true},
		{&deadline.Error{Kind: deadline.Request}, false},
		{&exchange.ResetError{Code: exchange.CodeCancel}, false},
		{balance.ErrLoadShed, false},
		{errors.New("connection refused"), false},
	} {
		if got := WantedError(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// frames is a body made of the given frames; "!" ends it with an error, "=x"
// with the trailer grpc-status x, "." plainly. ready says how many frames are
// there without waiting.
type frames struct {
	list   []string
	ready  int
	closed int
	buf    []byte
}

func (f *frames) Next() (exchange.Frame, error) {
	s := f.list[0]
	f.list = f.list[1:]
	f.ready--
	switch {
	case s == "!":
		return exchange.Frame{}, errors.New("broken")
	case s == ".":
		return exchange.Frame{End: true}, nil
	case strings.HasPrefix(s, "="):
		var t exchange.Fields
		t.Add("grpc-status", s[1:])
		return exchange.Frame{End: true, Trailers: &t}, nil
	}
	// One buffer for all, as codecs have it.
	f.buf = append(f.buf[:0], s...)
	return exchange.Frame{Data: f.buf}, nil
}
func (f *frames) Ready() bool { return f.ready > 0 }
func (f *frames) Ended() bool { return len(f.list) == 0 }
func (f *frames) Close(error) { f.closed++ }

// read reads a body to its end: "data|data|=trailer".
func read(b exchange.Body) string {
	var parts []string
	for !b.Ended() {
		f, err := b.Next()
		if err != nil {
			return strings.Join(append(parts, "!"), "|")
		}
		if len(f.Data) > 0 {
			parts = append(parts, string(f.Data))
		}
		if f.Trailers != nil {
			parts = append(parts, "="+string(f.Trailers.Get("grpc-status")))
		}
		if f.End {
			break
		}
	}
	return strings.Join(parts, "|")
}

func TestBodyReplays(t *testing.T) {
	for _, c := range []struct {
		name, body    string
		length        int64
		limit, steps  int
		first, second string
		replayable    bool
	}{
		{"whole", "ab|cd|.", -1, 4, 9, "ab|cd", "abcd", true},
		{"trailers", "ab|=7", -1, 4, 9, "ab|=7", "ab|=7", true},
		{"only trailers", "=7", -1, 4, 9, "=7", "=7", true},
		{"nothing", "", 0, 4, 9, "", "", true},
		{"over the limit", "abc|de|.", -1, 4, 9, "abc|de", "", false},
		{"announced too long", "ab|.", 5, 4, 9, "ab", "", false},
		{"broken", "ab|!", -1, 4, 9, "ab|!", "", false},
	} {
		var list []string
		if c.body != "" {
			list = strings.Split(c.body, "|")
		}
		orig := &frames{list: list}
		b := NewBody(orig, c.length, c.limit)
		a := b.Attempt()
		if got := read(a); got != c.first {
			t.Errorf("%s: first attempt %q", c.name, got)
		}
		a.Close(nil)
		if b.Replayable() != c.replayable {
			t.Errorf("%s: replayable %v", c.name, !c.replayable)
		}
		if c.replayable {
			for range 2 {
				if got := read(b.Attempt()); got != c.second {
					t.Errorf("%s: replay %q", c.name, got)
				}
			}
		}
	}
}

func TestBodyNotBegunStaysWhole(t *testing.T) {
	orig := &frames{list: []string{"ab", "."}}
	b := NewBody(orig, -1, 10)
	b.Attempt().Close(errors.New("no endpoint"))
	if orig.closed != 0 || !b.Replayable() {
		t.Fatal("body was given up before it was begun")
	}
	if got := read(b.Attempt()); got != "ab" {
		t.Error(got)
	}
}

func TestBodyHalfReadIsNotReplayed(t *testing.T) {
	orig := &frames{list: []string{"ab", "cd", "."}}
	b := NewBody(orig, -1, 10)
	a := b.Attempt()
	a.Next()
	if b.Replayable() {
		t.Error("replayable before its end")
	}
	a.Close(nil)
	if orig.closed != 1 || b.Replayable() {
		t.Error("not closed")
	}
}

func TestPeek(t *testing.T) {
	for _, c := range []struct {
		body     string
		ready    int
		trailers string
		left     int // frames of the original not looked at
	}{
		{"=14", 0, "14", 0},
		{"ab|=14", 2, "14", 0},
		{"ab|=14", 1, "", 1}, // would have to wait
		{"ab|cd|=14", 9, "", 1},
		{"ab|.", 9, "", 0},
		{"!", 9, "", 0},
		{"ab|!", 9, "", 0},
	} {
		orig := &frames{list: strings.Split(c.body, "|"), ready: c.ready}
		p := Peek(orig)
		got := ""
		if tr := p.Trailers(); tr != nil {
			got = string(tr.Get("grpc-status"))
		}
		if got != c.trailers || len(orig.list) != c.left {
			t.Errorf("%s: trailers %q, %d left", c.body, got, len(orig.list))
		}
		if all := read(p); all != strings.TrimSuffix(strings.TrimSuffix(c.body, "."), "|") {
			t.Errorf("%s: read %q", c.body, all)
		}
	}
	if p := Peek(exchange.Empty); !p.Ended() {
		t.Error("empty body has not ended")
	}
}

func TestBudget(t *testing.T) {
	start := time.Unix(1000, 0)
	take := func(b *Budget, at time.Time) (n int) {
		for n < 100000 && b.Withdraw(at) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		name           string
		cfg            model.RetryBudget
		requests, want int
	}{
		{"reserve", model.RetryBudget{Ratio: 0.2, MinPerSecond: 10, TTL: 10 * time.Second}, 0, 100},
		{"ratio", model.RetryBudget{Ratio: 0.2, TTL: 10 * time.Second}, 50, 10},
		{"both", model.RetryBudget{Ratio: 0.5, MinPerSecond: 1, TTL: 10 * time.Second}, 50, 35},
		{"ratio 0", model.RetryBudget{Ratio: 0, MinPerSecond: 1, TTL: 10 * time.Second}, 50, 10},
		{"ratio above 1", model.RetryBudget{Ratio: 10, TTL: 10 * time.Second}, 50, 500},
		{"bad ttl", model.RetryBudget{Ratio: 1, MinPerSecond: 100, TTL: 500 * time.Millisecond}, 50, 0},
		{"bad ratio", model.RetryBudget{Ratio: 1001, MinPerSecond: 100, TTL: time.Second}, 50, 0},
	} {
		b := NewBudget(&c.cfg, start)
		for range c.requests {
			b.Deposit(start)
		}
		if got := take(b, start); got != c.want {
			t.Errorf("%s: %d retries, want %d", c.name, got, c.want)
		}
	}
	// Requests count for the time to live, and withdrawals are forgotten then.
	b := NewBudget(&model.RetryBudget{Ratio: 1, TTL: 10 * time.Second}, start)
	for range 5 {
		b.Deposit(start)
	}
	if got := take(b, start.Add(9*time.Second)); got != 5 {
		t.Errorf("within ttl: %d", got)
	}
	for range 5 {
		b.Deposit(start.Add(9 * time.Second))
	}
	if got := take(b, start.Add(30*time.Second)); got != 0 {
		t.Errorf("after ttl: %d", got)
	}
}
