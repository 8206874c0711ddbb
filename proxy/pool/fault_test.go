package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

// pipes serves connections that are pipes, and waits for their servers.
type pipes struct {
	wg    sync.WaitGroup
	serve func(net.Conn)
	fault func(*faultconn.Conn) // applied to the client's side
}

func (p *pipes) dial(context.Context) (net.Conn, error) {
	a, b := faultconn.Pipe(64 << 10)
	p.wg.Go(func() { p.serve(b) })
	c := faultconn.New(a)
	if p.fault != nil {
		p.fault(c)
	}
	return c, nil
}

// lines is a request or response body that comes in several frames.
type lines struct {
	rest []string
	// fail, if set, is the error after the last.
	fail error
}

func (l *lines) Next() (exchange.Frame, error) {
	if len(l.rest) == 0 {
		return exchange.Frame{}, l.fail
	}
	f := exchange.Frame{Data: []byte(l.rest[0])}
	l.rest = l.rest[1:]
	f.End = len(l.rest) == 0 && l.fail == nil
	return f, nil
}
func (l *lines) Ready() bool   { return len(l.rest)%2 == 0 }
func (l *lines) Ended() bool   { return len(l.rest) == 0 && l.fail == nil }
func (l *lines) Close(_ error) {}

// upper is an application that sends the body back in capitals, with a trailer.
func upper(x *exchange.Exchange) {
	h := exchange.ResponseHead{Status: 200, ContentLength: -1}
	h.Add("x-path", string(x.Request.Path))
	x.Respond(&h, &upperBody{Body: x.Body})
}

type upperBody struct {
	exchange.Body
	t exchange.Fields
}

func (b *upperBody) Next() (exchange.Frame, error) {
	f, err := b.Body.Next()
	if err == nil {
		f.Data = []byte(strings.ToUpper(string(f.Data)))
		if f.End {
			b.t.Reset()
			b.t.Add("x-end", "true")
			f.Trailers = &b.t
		}
	}
	return f, err
}

// outcome is what a client of the pair sees of a request.
func outcome(c exchange.Client, body exchange.Body) string {
	h := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte("POST"), Path: []byte("/p"), ContentLength: -1}
	h.Add("host", "a")
	resp, err := c.RoundTrip(nil, h, body)
	if err != nil {
		return "error"
	}
	defer resp.Close()
	out := fmt.Sprintf("%d %s ", resp.Head.Status, resp.Head.Get("x-path"))
	for !resp.Body.Ended() {
		f, err := resp.Body.Next()
		if err != nil {
			return "error"
		}
		out += string(f.Data)
		if f.Trailers != nil {
			out += fmt.Sprintf(" %s", f.Trailers.Get("x-end"))
		}
	}
	return out
}

// chain builds client → outbound → inbound → application over pipes, with a
// protocol and faults between outbound and inbound. It returns the client's
// dialer and what to wait for at the end.
func chain(protocol string, fault func(*faultconn.Conn)) (client *H1, stop func()) {
	app := &pipes{serve: func(c net.Conn) { h1.Serve(c, exchange.HandlerFunc(upper), h1.ServerOptions{}) }}
	inPool := NewH1(H1Options{Dial: app.dial})
	in := &pipes{fault: fault}
	var out exchange.Client
	closeOut := func() {}
	if protocol == "h2" {
		in.serve = func(c net.Conn) { h2.NewServer(c, relay(inPool), nil, h2.Options{}).Serve() }
		p := NewH2(H2Options{Dial: in.dial, Backoff: Backoff{time.Second, time.Second, 0}})
		out, closeOut = p, func() { p.Close(); p.Wait() }
	} else {
		in.serve = func(c net.Conn) { h1.Serve(c, relay(inPool), h1.ServerOptions{}) }
		p := NewH1(H1Options{Dial: in.dial})
		out, closeOut = p, p.Close
	}
	front := &pipes{serve: func(c net.Conn) { h1.Serve(c, relay(out), h1.ServerOptions{}) }}
	client = NewH1(H1Options{Dial: front.dial})
	return client, func() {
		client.Close()
		front.wg.Wait()
		closeOut()
		in.wg.Wait()
		inPool.Close()
		app.wg.Wait()
	}
}

const wantUpper = "200 /p ONE TWO THREE FOUR true"

func request4() *lines { return &lines{rest: []string{"one ", "two ", "three ", "four"}} }

// TestFragmented sends every byte of the middle connection on its own: the
// result must not change.
func TestFragmented(t *testing.T) {
	for _, protocol := range []string{"h1", "h2"} {
		for _, size := range []int{1, 2, 3, 10} {
			synctest.Test(t, func(t *testing.T) {
				c, stop := chain(protocol, func(c *faultconn.Conn) { c.Fragment(size, size) })
				defer stop()
				for range 3 {
					if got := outcome(c, request4()); got != wantUpper {
						t.Errorf("%s in pieces of %d: %s", protocol, size, got)
					}
				}
			})
		}
	}
}

// TestCut ends the middle connection after every number of bytes, both ways and
// in both manners. The client must get either the whole answer or an error
// (502 or a broken body), never a part that looks whole; nothing may hang, and
// no buffer may be lost. Later requests find the chain in order.
func TestCut(t *testing.T) {
	outstanding := buf.Count()
	for _, protocol := range []string{"h1", "h2"} {
		for _, f := range []faultconn.Fault{faultconn.EOF, faultconn.Reset} {
			for _, write := range []bool{false, true} {
				whole := 0
				for n := int64(0); n < 420; n++ {
					synctest.Test(t, func(t *testing.T) {
						first := true
						c, stop := chain(protocol, func(c *faultconn.Conn) {
							if !first {
								return
							}
							first = false
							if write {
								c.CutWrite(n, f)
							} else {
								c.CutRead(n, f)
							}
						})
						defer stop()
						got := outcome(c, request4())
						switch {
						case got == wantUpper:
							whole++
						case got == "error", strings.HasPrefix(got, "502"):
						default:
							t.Errorf("%s cut after %d bytes (write %v, fault %d): %s", protocol, n, write, f, got)
						}
						// The cut may also hit a later request on the same
						// connection, but only one.
						for range 3 {
							got = outcome(c, request4())
						}
						if got == "error" || strings.HasPrefix(got, "502") {
							got = outcome(c, request4())
						}
						if got != wantUpper {
							t.Errorf("%s after a cut at %d (write %v, fault %d): %s", protocol, n, write, f, got)
						}
					})
				}
				if whole == 0 {
					t.Errorf("%s: no cut was late enough (write %v)", protocol, write)
				}
			}
		}
	}
	freed(t, outstanding)
}

// TestClientBodyFails: the client's own body ends with an error in the middle.
func TestClientBodyFails(t *testing.T) {
	outstanding := buf.Count()
	for _, protocol := range []string{"h1", "h2"} {
		synctest.Test(t, func(t *testing.T) {
			c, stop := chain(protocol, nil)
			defer stop()
			if got := outcome(c, &lines{rest: []string{"one ", "two "}, fail: io.ErrNoProgress}); got != "error" {
				t.Errorf("%s: %s", protocol, got)
			}
			if got := outcome(c, request4()); got != wantUpper {
				t.Errorf("%s afterwards: %s", protocol, got)
			}
		})
	}
	freed(t, outstanding)
}

// TestStalledServerIsCancelled: a request against a connection that stands
// still ends when it is cancelled.
func TestStalledServerIsCancelled(t *testing.T) {
	for _, protocol := range []string{"h1", "h2"} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{fault: (*faultconn.Conn).Stall}
			var c exchange.Client
			var stop func()
			if protocol == "h2" {
				p.serve = func(c net.Conn) { h2.NewServer(c, exchange.HandlerFunc(upper), nil, h2.Options{}).Serve() }
				pool := NewH2(H2Options{Dial: p.dial, HTTP2: h2.Options{KeepAliveInterval: time.Second, KeepAliveTimeout: time.Second, KeepAliveWhileIdle: true}})
				c, stop = pool, func() { pool.Close(); pool.Wait() }
			} else {
				p.serve = func(c net.Conn) { h1.Serve(c, exchange.HandlerFunc(upper), h1.ServerOptions{}) }
				pool := NewH1(H1Options{Dial: p.dial})
				c, stop = pool, pool.Close
			}
			var cn exchange.Canceler
			why := errors.New("too slow")
			time.AfterFunc(500*time.Millisecond, func() { cn.Cancel(why) })
			_, err := c.RoundTrip(&cn, get("a"), exchange.Empty)
			if !errors.Is(err, why) {
				t.Errorf("%s: %v", protocol, err)
			}
			stop()
			p.wg.Wait()
		})
	}
}
