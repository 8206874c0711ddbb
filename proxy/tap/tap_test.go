package tap

import (
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func request(path string) Request {
	h := &exchange.RequestHead{Method: []byte("GET"), Path: []byte(path), Version: exchange.HTTP2, Authority: []byte("web")}
	h.Add("x", "y")
	return Request{Head: h, At: time.Unix(100, 0)}
}

func TestObservation(t *testing.T) {
	var h Hub
	if h.Active() || (*Hub)(nil).Active() {
		t.Fatal("somebody observes nothing")
	}
	tap := h.Observe(Options{Limit: 2, Headers: true, Match: func(r *Request) bool { return string(r.Head.Path) != "/no" }})
	if h.Begin(request("/no")) != nil {
		t.Error("a request that does not match is observed")
	}
	one, two := h.Begin(request("/a?b")), h.Begin(request("/c"))
	if one == nil || two == nil || h.Begin(request("/d")) != nil || h.Active() {
		t.Fatal("the limit does not hold")
	}
	resp := &exchange.ResponseHead{Status: 200, Version: exchange.HTTP2}
	one.Response(resp, time.Unix(101, 0))
	one.End(End{At: time.Unix(103, 0), Bytes: 5, GRPC: -1, Reset: -1})
	select {
	case <-tap.Done():
		t.Error("done before the last request ended")
	default:
	}
	two.End(End{At: time.Unix(102, 0), GRPC: -1, Reset: 8})
	<-tap.Done()
	want := []struct {
		kind   Kind
		stream uint64
	}{{RequestInit, 0}, {RequestInit, 1}, {ResponseInit, 0}, {ResponseEnd, 0}, {ResponseEnd, 1}}
	for i, w := range want {
		e := <-tap.Events()
		if e.Kind != w.kind || e.Stream != w.stream {
			t.Errorf("event %d: got %d of stream %d", i, e.Kind, e.Stream)
		}
		switch i {
		case 0:
			if e.Path != "/a" || e.Headers[3].Name != ":path" || string(e.Headers[3].Value) != "/a?b" || e.Scheme != "http" {
				t.Errorf("got %+v", e)
			}
		case 2:
			if e.SinceRequest != time.Second || e.Headers[0].Name != ":status" || string(e.Headers[0].Value) != "200" {
				t.Errorf("got %+v", e)
			}
		case 3:
			if e.SinceResponse != 2*time.Second || !e.HasHead || e.Bytes != 5 {
				t.Errorf("got %+v", e)
			}
		case 4:
			if e.HasHead || e.End.Reset != 8 {
				t.Errorf("got %+v", e)
			}
		}
	}
	tap.Close()
}

func TestSlowObserverLosesEvents(t *testing.T) {
	var h Hub
	tap := h.Observe(Options{Limit: 1000, Match: func(*Request) bool { return true }})
	for range 1000 {
		h.Begin(request("/")).End(End{})
	}
	if n := len(tap.Events()); n != buffer {
		t.Errorf("%d events wait", n)
	}
	// Each request is two events, for there was no response.
	if tap.Lost() != 2*1000-buffer || h.Lost() != tap.Lost() {
		t.Errorf("%d events were lost, %d in all", tap.Lost(), h.Lost())
	}
	tap.Close()
	tap.Close()
	if h.Active() || h.Begin(request("/")) != nil {
		t.Error("a closed tap observes")
	}
}
