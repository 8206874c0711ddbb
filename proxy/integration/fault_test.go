package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// faulty makes the connections of a dialer misbehave while it is on.
type faulty struct {
	netx.Dialer
	mu sync.Mutex
	// fault is guarded by mu.
	fault func(*faultconn.Conn)
}

func (f *faulty) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := f.Dialer.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil {
		return c, nil
	}
	fc := faultconn.New(c)
	f.fault(fc)
	return fc, nil
}

func (f *faulty) set(fault func(*faultconn.Conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// TestFaults lets connections misbehave between the proxies, which speak mTLS, and
// between the inbound proxy and the application: requests that get a whole answer
// get the right one, the others an error of the proxy or the end of the one that
// began, none hangs; and when the fault is over all are served.
func TestFaults(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	faults := []struct {
		name  string
		apply func(*faultconn.Conn, *rand.Rand)
		// harmless faults may not be noticed.
		harmless bool
	}{
		{"in pieces", func(c *faultconn.Conn, r *rand.Rand) { c.Fragment(1+r.IntN(700), 1+r.IntN(700)) }, true},
		{"truncated", func(c *faultconn.Conn, r *rand.Rand) { c.CutRead(r.Int64N(100_000), faultconn.EOF) }, false},
		{"truncated towards the server", func(c *faultconn.Conn, r *rand.Rand) { c.CutWrite(r.Int64N(100_000), faultconn.EOF) }, false},
		{"reset", func(c *faultconn.Conn, r *rand.Rand) { c.CutRead(r.Int64N(100_000), faultconn.Reset) }, false},
		{"reset while writing", func(c *faultconn.Conn, r *rand.Rand) { c.CutWrite(r.Int64N(100_000), faultconn.Reset) }, false},
		{"stalled for a while", func(c *faultconn.Conn, r *rand.Rand) {
			c.Stall()
			time.AfterFunc(time.Duration(r.IntN(200))*time.Millisecond, c.Resume)
		}, true},
	}
	for _, where := range []string{"between the proxies", "before the application"} {
		t.Run(where, func(t *testing.T) {
			f := &faulty{}
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				if where == "between the proxies" {
					f.Dialer, oc.Dialer = oc.Dialer, f
				} else {
					f.Dialer, ic.Dialer = ic.Dialer, f
				}
			})
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, err := io.ReadAll(r.Body)
				if err != nil {
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(got)
			}))
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			for _, fault := range faults {
				for _, http2 := range []bool{false, true} {
					f.set(func(c *faultconn.Conn) { fault.apply(c, r) })
					// What was pooled before has no faults.
					for range 3 {
						c := m.client(http2)
						var all sync.WaitGroup
						for range 4 {
							all.Go(func() {
								if err := post(c, body); err != nil && fault.harmless {
									t.Errorf("%s, HTTP/2 %v: %v", fault.name, http2, err)
								}
							})
						}
						all.Wait()
					}
					f.set(nil)
					eventually(t, "served after it", func() bool { return post(m.client(http2), body) == nil })
				}
			}
		})
	}
}

// post has a body echoed. It is an error, but not one of the test's, if the answer
// is one of the proxy's or breaks off; a wrong answer panics.
func post(c *http.Client, body []byte) error {
	resp, err := c.Post("http://web.ns.svc.cluster.local/", "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= 500 && len(got) == 0:
		return fmt.Errorf("status %d: %s", resp.StatusCode, resp.Header.Get("L5d-Proxy-Error"))
	case resp.StatusCode != 200 || !bytes.Equal(got, body):
		panic(fmt.Sprintf("status %d with %d bytes", resp.StatusCode, len(got)))
	}
	return nil
}

// TestWrongProtocol: an application that does not speak what it is spoken to in is
// a bad gateway, not a hang.
func TestWrongProtocol(t *testing.T) {
	for _, c := range []struct {
		name, says string
		http2      bool
	}{
		{"HTTP/2 to a server of HTTP/1", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true},
		{"HTTP/2 to a mail server", "220 mail.example.com ESMTP\r\n", true},
		{"HTTP/2 to a server that hangs up", "", true},
		{"HTTP/1 to a server of HTTP/2", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", false},
		{"HTTP/1 to a mail server", "220 mail.example.com ESMTP\r\n", false},
		{"HTTP/1 to a server that hangs up", "", false},
		{"HTTP/1 to a TLS server", "\x15\x03\x03\x00\x02\x02\x46", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serveTCP(func(conn net.Conn) {
				defer conn.Close()
				// It hears before it speaks, or the proxy would join them.
				_, _ = conn.Read(make([]byte, 14))
				_, _ = io.WriteString(conn, c.says)
			})
			resp, _ := m.get(m.client(c.http2), "http://web.ns.svc.cluster.local/")
			if resp.StatusCode != 502 && resp.StatusCode != 504 {
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
}

// TestFullQueue: what finds no place in the queue is shed at once, what has one
// waits for fail-fast.
func TestFullQueue(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		oc.HTTPQueue = outbound.Queue{Capacity: 2, FailFast: 2 * time.Second}
	})
	m.endpoints.Set(endpoints())
	c := m.client(true)
	type answer struct {
		status int
		reason string
		took   time.Duration
	}
	answers := make(chan answer, 20)
	for range cap(answers) {
		go func() {
			began := time.Now()
			resp, err := c.Get("http://web.ns.svc.cluster.local/")
			if err != nil {
				answers <- answer{reason: err.Error()}
				return
			}
			resp.Body.Close()
			answers <- answer{resp.StatusCode, resp.Header.Get("L5d-Proxy-Error"), time.Since(began)}
		}()
	}
	shed, failed := 0, 0
	for range cap(answers) {
		switch a := <-answers; {
		case a.status == 503 && strings.HasSuffix(a.reason, "service unavailable"):
			shed++
		case a.status == 504 && strings.HasSuffix(a.reason, "service in fail-fast"):
			failed++
		default:
			t.Errorf("got %+v", a)
		}
	}
	if shed == 0 || failed < 2 {
		t.Errorf("%d were shed, %d waited in vain", shed, failed)
	}
	m.wants(m.out.reg, fmt.Sprintf(`outbound_http_errors_total{error="loadshed"} %d`, shed))
}
