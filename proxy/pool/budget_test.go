package pool

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
)

// inUse is the memory of the process that is neither free nor returned.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestIdleConnectionBudget is about the memory that an idle connection costs
// after it has carried a request: proxies have thousands of them.
func TestIdleConnectionBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	app := exchange.HandlerFunc(hello)
	const n = 500
	for _, tc := range []struct {
		name  string
		serve func(net.Conn)
		speak func(t *testing.T, c net.Conn)
		most  int64 // bytes, both ends of the test included
	}{
		{"HTTP/1", func(c net.Conn) { h1.Serve(c, app, h1.ServerOptions{}) }, func(t *testing.T, c net.Conn) {
			io.WriteString(c, getRequest)
			if _, err := c.Read(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}, 14 << 10},
		{"HTTP/2", func(c net.Conn) { h2.NewServer(c, app, nil, h2.Options{}).Serve() }, func(t *testing.T, c net.Conn) {
			cc := h2.NewClientConn(c, h2.Options{})
			t.Cleanup(func() { cc.Close(); cc.Wait() })
			if got := do(t, cc, get("a")); got != "hello" {
				t.Fatal(got)
			}
		}, 50 << 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := server(t, tc.serve)
			before := inUse()
			for range n {
				c, err := dialer(addr)(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				tc.speak(t, c)
			}
			each := (inUse() - before) / n
			t.Logf("%d bytes for each idle connection", each)
			if each > tc.most {
				t.Errorf("an idle connection takes %d bytes, want at most %d", each, tc.most)
			}
		})
	}
}

// TestMemoryShrinksAfterABurst: what many connections with large bodies took is
// given back when they are gone. Memory that stays high after a burst is what
// users of sidecars complain about.
func TestMemoryShrinksAfterABurst(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	addr := mesh(t, echoApp(100))
	one := newRawClient(t, addr, getRequest)
	for range 100 {
		if err := one.do(); err != nil {
			t.Fatal(err)
		}
	}
	before := inUse()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c, err := dialer(addr)(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			const size = 200 << 10
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
			go c.Write(make([]byte, size))
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := one.do(); err != nil {
		t.Fatal(err)
	}
	// Idle goroutines, pooled connections and buffers leave one after the
	// other, within seconds.
	const most = 3 << 20
	grown := int64(0)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if grown = inUse() - before; grown < most {
			t.Logf("%d bytes more than before", grown)
			return
		}
	}
	t.Errorf("%d bytes more than before stay in use, want at most %d", grown, most)
}
