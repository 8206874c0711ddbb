package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// keeping is a dialer that keeps the connections it made.
type keeping struct {
	netx.Dialer
	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (k *keeping) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := k.Dialer.Dial(ctx, to)
	if err == nil {
		k.mu.Lock()
		k.conns = append(k.conns, c)
		k.mu.Unlock()
	}
	return c, err
}

// cut ends all connections at once.
func (k *keeping) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.Close()
	}
}

// TestCallsThatBreakOff: a gRPC call whose server goes away in the middle is
// UNAVAILABLE, which clients try again, and no fault within the proxy.
func TestCallsThatBreakOff(t *testing.T) {
	for _, where := range []string{"between the proxies", "before the application"} {
		t.Run(where, func(t *testing.T) {
			k := &keeping{}
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				if where == "between the proxies" {
					k.Dialer, oc.Dialer = oc.Dialer, k
				} else {
					k.Dialer, ic.Dialer = ic.Dialer, k
				}
			})
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Trailer", "Grpc-Status")
				_, _ = io.WriteString(w, "part")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}))
			got := make(chan string, 1)
			first := m.broken(func(s string) { got <- s })
			<-first
			k.cut()
			if s := <-got; s != "part 14" {
				t.Errorf("client got %s", s)
			}
		})
	}
}

// broken makes a call and tells how it ended; the channel is closed once its
// response has begun.
func (m *mesh) broken(end func(string)) <-chan struct{} {
	m.t.Helper()
	first := make(chan struct{})
	c := m.client(true)
	go func() {
		req, _ := http.NewRequest("POST", "http://web.ns.svc.cluster.local/s/Watch", http.NoBody)
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		resp, err := c.Do(req)
		if err != nil {
			close(first)
			end(err.Error())
			return
		}
		defer resp.Body.Close()
		part := make([]byte, 4)
		_, err = io.ReadFull(resp.Body, part)
		close(first)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil {
			end(err.Error())
			return
		}
		end(string(part) + " " + resp.Trailer.Get("Grpc-Status"))
	}()
	return first
}
