package h1

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// parker serves connections as package accept does.
type parker struct {
	lot   *netx.Lot
	s     *Server
	again *atomic.Int32
	done  chan error
}

func (p *parker) Wake() { go p.goOn() }

func (p *parker) goOn() {
	switch err := p.s.Serve(); {
	case err != ErrAgain:
		p.done <- err
	case p.lot.Park(p.s.conn, p):
		p.again.Add(1)
	default:
		p.again.Add(1)
		go p.goOn()
	}
}

// sockets are both ends of a connection.
func sockets(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := netx.Listen(netip.MustParseAddrPort("127.0.0.1:0"), netx.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if theirs, err = new(netx.TCPDialer).Dial(context.Background(), netx.AddrPort(ln.Addr())); err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// echoBody answers with the request's body.
func echoBody(x *exchange.Exchange) {
	var all []byte
	for {
		f, err := x.Body.Next()
		if err != nil {
			return
		}
		all = append(all, f.Data...)
		if f.End {
			break
		}
	}
	_ = x.Respond(&exchange.ResponseHead{Status: 200, ContentLength: int64(len(all))}, &exchange.Bytes{Data: all})
}

// TestConnectionsThatWaitAreCalled: whenever the watcher comes, no request is lost or
// broken off, and in the end the connection waits elsewhere although it did nothing.
func TestConnectionsThatWaitAreCalled(t *testing.T) {
	var lot netx.Lot
	defer lot.Close()
	// It looks so often that it meets requests at all their stages.
	w := NewWatcher(clock.System, 200*time.Microsecond)
	var clients sync.WaitGroup
	var again atomic.Int32
	for i := range 8 {
		ours, theirs := sockets(t)
		p := &parker{lot: &lot, again: &again, done: make(chan error, 1)}
		p.s = NewServer(ours, exchange.HandlerFunc(echoBody), ServerOptions{Again: true, Watcher: w, HeaderTimeout: time.Minute})
		p.Wake()
		clients.Go(func() {
			defer theirs.Close()
			random := rand.New(rand.NewPCG(uint64(i), 0))
			pause := func() { time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond) }
			answer := make([]byte, 1<<10)
			for n := range 60 {
				body := fmt.Sprintf("%d of %d", n, i)
				request := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				// Some come in two parts.
				at := random.IntN(len(request))
				if n%2 == 0 {
					at = len(request)
				}
				io.WriteString(theirs, request[:at])
				if at < len(request) {
					pause()
					io.WriteString(theirs, request[at:])
				}
				got := ""
				for !strings.HasSuffix(got, body) {
					n, err := theirs.Read(answer)
					if err != nil {
						t.Errorf("request %q: %q, %v", body, got, err)
						return
					}
					got += string(answer[:n])
				}
				pause()
			}
			theirs.Close()
			if err := <-p.done; err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	if n := again.Load(); n < 8 {
		t.Errorf("connections waited elsewhere %d times", n)
	}

	// One that does two requests waits in a read after the second, until it is called.
	ours, theirs := sockets(t)
	again.Store(0)
	p := &parker{lot: &lot, again: &again, done: make(chan error, 1)}
	p.s = NewServer(ours, exchange.HandlerFunc(answer), ServerOptions{Again: true, Watcher: w})
	p.Wake()
	for range 2 {
		io.WriteString(theirs, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := theirs.Read(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for again.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	// A drain ends it there.
	p.s.Drain()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	if n, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the drain: %d, %v", n, err)
	}
}

// TestDrainMeetsCalls: a drain at any moment ends a connection that is being called.
func TestDrainMeetsCalls(t *testing.T) {
	var lot netx.Lot
	defer lot.Close()
	w := NewWatcher(clock.System, 100*time.Microsecond)
	for i := range 100 {
		ours, theirs := sockets(t)
		p := &parker{lot: &lot, again: new(atomic.Int32), done: make(chan error, 1)}
		p.s = NewServer(ours, exchange.HandlerFunc(answer), ServerOptions{Again: true, Watcher: w})
		p.Wake()
		for range 2 {
			io.WriteString(theirs, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if _, err := theirs.Read(make([]byte, 1<<10)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(i*5) * time.Microsecond)
		p.s.Drain()
		if err := <-p.done; err != nil {
			t.Error(err)
		}
		theirs.Close()
	}
}
