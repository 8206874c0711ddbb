package observe

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// frames is a body of one-letter frames; "!" fails.
type frames struct {
	s      string
	closed error
}

var errBroken = errors.New("broken")

func (f *frames) Next() (exchange.Frame, error) {
	c := f.s[:1]
	f.s = f.s[1:]
	if c == "!" {
		return exchange.Frame{}, errBroken
	}
	return exchange.Frame{Data: []byte(c), End: f.s == ""}, nil
}
func (f *frames) Ready() bool     { return true }
func (f *frames) Ended() bool     { return f.s == "" }
func (f *frames) Close(err error) { f.closed = err }

// diary writes down what it hears.
type diary struct{ strings.Builder }

func (d *diary) Frame(f exchange.Frame) { fmt.Fprintf(d, "%s ", f.Data) }
func (d *diary) Over(err error)         { fmt.Fprintf(d, "over:%v ", err) }

func TestBody(t *testing.T) {
	for _, c := range []struct {
		name, body string
		read       int
		finish     error
		want       string
	}{
		{"whole", "ab", 2, nil, "a b over:<nil> "},
		{"empty", "", 0, nil, "over:<nil> "},
		{"broken", "a!", 2, nil, "a over:broken "},
		{"dropped", "abc", 1, nil, "a over:body was dropped before its end "},
		{"given up", "abc", 1, exchange.ErrClientGone, "a over:client went away "},
	} {
		var d diary
		var b Body
		b.Watch(&frames{s: c.body}, &d)
		for range c.read {
			_, _ = b.Next()
		}
		b.Finish(c.finish)
		b.Finish(c.finish)
		if d.String() != c.want {
			t.Errorf("%s: got %q, want %q", c.name, d.String(), c.want)
		}
	}
}

func TestCloseIsPassedOn(t *testing.T) {
	var d diary
	var b Body
	f := &frames{s: "ab"}
	b.Watch(f, &d)
	b.Close(errBroken)
	if f.closed != errBroken || d.Len() != 0 || b.Ended() || b.Over() {
		t.Errorf("closed with %v, heard %q", f.closed, d.String())
	}
}
