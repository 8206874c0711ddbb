package pool

import (
	"io"
	"net"
	"runtime"
	"testing"

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
