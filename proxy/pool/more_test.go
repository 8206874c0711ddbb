package pool

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
)

// TestStreamsBeyondTheServersLimit: what a server does not allow on one connection,
// though it would serve it, goes over others. Requests of many clients that last,
// watches for example, would otherwise wait for each other for ever.
func TestStreamsBeyondTheServersLimit(t *testing.T) {
	const limit, requests = 2, 7
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan string, requests), make(chan struct{})
	var open atomic.Int32
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: limit},
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			arrived <- r.RemoteAddr
			<-release
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		},
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(ln)
	}()
	defer func() {
		s.Close()
		<-served
	}()
	var dials atomic.Int32
	clk := clock.NewManual(time.Unix(1000, 0))
	p := NewH2(H2Options{
		Dial: counting(ln.Addr().String(), &dials), Clock: clk, Choose: true,
		// What a server allows is not known before it has said so.
		HTTP2: h2.Options{InitialMaxSendStreams: 1},
	})
	p.Connect()
	until(t, "connected", func() bool { s, _ := p.State(); return s == Ready })

	head := func() *exchange.RequestHead {
		return &exchange.RequestHead{Version: exchange.HTTP2, Method: []byte("GET"), Authority: []byte("a"), Path: []byte("/")}
	}
	var sent sync.WaitGroup
	by := map[string]int{}
	for range requests {
		sent.Go(func() {
			resp, err := p.RoundTrip(nil, head(), exchange.Empty)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Close()
		})
		by[<-arrived]++
	}
	if len(by) != 4 || dials.Load() != 4 {
		t.Errorf("%d requests went over %v, %d dials", requests, by, dials.Load())
	}
	// Those with streams stay.
	clk.Advance(time.Minute)
	if n := open.Load(); n != 4 {
		t.Errorf("%d connections are left that are in use", n)
	}
	close(release)
	sent.Wait()
	until(t, "closed", func() bool {
		clk.Advance(moreIdle)
		return open.Load() == 1
	})
	p.Close()
	p.Wait()
}

// TestServerThatTakesNoStreams: against a server that allows none, connections are of
// no use, and a request that waits for better times must not make hundreds.
func TestServerThatTakesNoStreams(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var known atomic.Int32 // connections whose client knows that
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				fr := http2.NewFramer(c, c)
				_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
				_, _ = io.CopyN(io.Discard, c, int64(len(h2.Preface)))
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					if s, ok := f.(*http2.SettingsFrame); ok && s.IsAck() {
						known.Add(1)
					}
				}
			})
		}
	})
	var dials atomic.Int32
	// Its time does not pass, so that nothing is closed for being idle.
	p := NewH2(H2Options{Dial: counting(ln.Addr().String(), &dials), Clock: clock.NewManual(time.Unix(1000, 0))})
	defer func() {
		p.Close()
		p.Wait()
		ln.Close()
		conns.Wait()
	}()
	p.Connect()
	p.further(0).Connect()
	until(t, "both connections are known to be of no use", func() bool { return known.Load() == 2 })
	var c exchange.Canceler
	over := make(chan error, 1)
	go func() {
		_, err := p.RoundTrip(&c, &exchange.RequestHead{Version: exchange.HTTP2, Method: []byte("GET"), Path: []byte("/")}, exchange.Empty)
		over <- err
	}()
	until(t, "waits", func() bool { return dials.Load() > 2 || waitsForSlot() })
	gone := errors.New("gone")
	c.Cancel(gone)
	if err := <-over; !errors.Is(err, gone) {
		t.Errorf("ended with %v", err)
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// waitsForSlot reports whether a request waits for the server to allow a stream.
func waitsForSlot() bool {
	b := make([]byte, 1<<20)
	return bytes.Contains(b[:runtime.Stack(b, true)], []byte("slotLocked"))
}

// until waits for what happens by itself.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for by := time.Now().Add(30 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(by) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}
