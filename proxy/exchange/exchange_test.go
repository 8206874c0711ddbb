package exchange

import (
	"errors"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func fieldsOf(s string) *Fields {
	var f Fields
	for _, l := range strings.Split(s, "|") {
		if n, v, ok := strings.Cut(l, ":"); ok {
			f.Add(n, v)
		}
	}
	return &f
}

func text(f *Fields) string {
	var out []string
	for _, e := range f.List {
		out = append(out, string(e.Name)+":"+string(e.Value))
	}
	return strings.Join(out, "|")
}

func TestStripConnection(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"a:1|b:2", "a:1|b:2"},
		{"a:1|Connection:close|b:2", "a:1|b:2"},
		{"Connection:X-Hop , y|X-HOP:1|Y:2|z:3", "z:3"},
		{"connection:a|connection:b|a:1|b:2|c:3", "c:3"},
		{"Keep-Alive:timeout=5|Proxy-Connection:close|Upgrade:h2c|a:1", "a:1"},
		{"Connection:Upgrade, HTTP2-Settings|Upgrade:h2c|HTTP2-Settings:AAA|a:1", "a:1"},
		{"Connection:content-length, host, transfer-encoding|Content-Length:5|Host:a", "Content-Length:5|Host:a"},
		{"Connection:,,|a:1", "a:1"},
	} {
		f := fieldsOf(tc.in)
		StripConnection(f)
		if got := text(f); got != tc.want {
			t.Errorf("%s became %s, want %s", tc.in, got, tc.want)
		}
	}
}

func TestFields(t *testing.T) {
	f := fieldsOf("A:1|b:2|a:3|empty:")
	if got := f.Get("empty"); got == nil || len(got) != 0 {
		t.Errorf("empty value is %v", got)
	}
	if f.Get("absent") != nil || f.Has("absent") {
		t.Error("absent field is there")
	}
	f.Set("a", "4")
	if got := text(f); got != "A:4|b:2|empty:" {
		t.Errorf("after Set: %s", got)
	}
	if !f.Del("b") || f.Del("b") {
		t.Error("Del does not tell what it did")
	}
	var c Fields
	c.CopyFrom(f)
	f.Reset()
	f.Add("overwritten", strings.Repeat("x", 100))
	if got := text(&c); got != "A:4|empty:" {
		t.Errorf("copy changed to %s", got)
	}
}

func TestKeptBytesStay(t *testing.T) {
	var f Fields
	for round := range 3 {
		f.Reset()
		var kept [][]byte
		for i := range 200 {
			kept = append(kept, f.KeepBytes([]byte{byte(i), byte(round)}))
		}
		for i, k := range kept {
			if k[0] != byte(i) || k[1] != byte(round) {
				t.Fatalf("round %d: kept bytes %d changed to %v", round, i, k)
			}
		}
	}
	b := []byte("0123456789012345678901234567890123456789")
	if n := testing.AllocsPerRun(100, func() {
		f.Reset()
		for range 10 {
			f.AddBytes(f.KeepBytes(b), f.KeepBytes(b))
		}
	}); n > 0 {
		t.Errorf("%v allocations per reused head", n)
	}
}

func TestCanceler(t *testing.T) {
	why, other := errors.New("why"), errors.New("other")
	var c Canceler
	var got []error
	if err := c.Bind(func(err error) { got = append(got, err) }); err != nil {
		t.Error(err)
	}
	c.Cancel(why)
	c.Cancel(other)
	if len(got) != 1 || got[0] != why || c.Cause() != why {
		t.Errorf("cancelled with %v, cause %v", got, c.Cause())
	}
	if err := c.Bind(func(error) {}); err != why {
		t.Errorf("bound after the fact: %v", err)
	}
	c.Reset()
	if c.Cause() != nil || c.Bind(nil) != nil {
		t.Error("reset canceler is cancelled")
	}
}

// TestBindWaitsForARunningFunction: what a function refers to can be reused
// after it was unbound.
func TestBindWaitsForARunningFunction(t *testing.T) {
	for range 100 {
		var c Canceler
		running := make(chan struct{})
		ended := false
		c.Bind(func(error) {
			close(running)
			for range 100 {
				ended = false
			}
			ended = true
		})
		go c.Cancel(errors.New("why"))
		<-running
		c.Bind(nil)
		if !ended {
			t.Fatal("function was still running")
		}
	}
}

func TestTokens(t *testing.T) {
	for _, tc := range []struct {
		value, token string
		want         bool
	}{
		{"close", "close", true}, {" Keep-Alive ,\tClose", "close", true},
		{"closed", "close", false}, {"", "close", false}, {",,", "close", false},
	} {
		if got := HasToken([]byte(tc.value), tc.token); got != tc.want {
			t.Errorf("HasToken(%q, %q) is %v", tc.value, tc.token, got)
		}
	}
}

func TestResetErrorNames(t *testing.T) {
	if got := (&ResetError{Code: 7, Remote: true}).Error(); got != "stream reset by peer: REFUSED_STREAM" {
		t.Error(got)
	}
	if got := (&ResetError{Code: 99}).CodeName(); got != "0x63" {
		t.Error(got)
	}
}
