package pool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// plain is mesh without the mesh: one HTTP/1 relay.
func plain(t testing.TB, app exchange.Handler) netip.AddrPort {
	appAddr := server(t, func(c net.Conn) { h1.Serve(c, app, h1.ServerOptions{}) })
	p := NewH1(H1Options{Dial: dialer(appAddr)})
	t.Cleanup(p.Close)
	return server(t, func(c net.Conn) { h1.Serve(c, relay(p), h1.ServerOptions{}) })
}

// h2Only is HTTP/2 on both sides of the relay to the application.
func h2Only(t testing.TB, app exchange.Handler) netip.AddrPort {
	appAddr := server(t, func(c net.Conn) { h2.NewServer(c, app, nil, h2.Options{}).Serve() })
	p := NewH2(H2Options{Dial: dialer(appAddr)})
	t.Cleanup(func() { p.Close(); p.Wait() })
	return server(t, func(c net.Conn) { h1.Serve(c, relay(p), h1.ServerOptions{}) })
}

// randomBody is a request body of random content that comes in random pieces, and
// may break off.
type randomBody struct {
	r      *rand.Rand
	rest   []byte
	breaks bool
}

func (b *randomBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if b.breaks && b.r.IntN(4) == 0 {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, b.rest[:1+b.r.IntN(len(b.rest))])
	b.rest = b.rest[n:]
	if b.r.IntN(8) == 0 {
		time.Sleep(time.Duration(b.r.IntN(300)) * time.Microsecond)
	}
	return n, nil
}

// TestRandomRequestsAgree sends the same random requests through different
// paths: every answer has to be the request's body, byte for byte, however it
// was cut up; aborted requests must not disturb others. The seed is printed.
func TestRandomRequestsAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	outstanding := buf.Count()
	rounds := 30
	if raceEnabled {
		rounds = 6 // it is many times slower
	}
	for name, path := range map[string]func(testing.TB, exchange.Handler) netip.AddrPort{"plain": plain, "h2": h2Only, "mesh": mesh} {
		t.Run(name, func(t *testing.T) {
			addr := path(t, echoApp(100))
			tr := &http.Transport{}
			t.Cleanup(tr.CloseIdleConnections)
			client := &http.Client{Transport: tr}
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(i)))
					for range rounds {
						if err := randomRequest(r, client, addr); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
	freed(t, outstanding)
}

func randomRequest(r *rand.Rand, client *http.Client, addr netip.AddrPort) error {
	size := []int{1, 10, 1000, 5000, 70000, 300000}[r.IntN(6)]
	data := make([]byte, 1+r.IntN(size))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	body := &randomBody{r: rand.New(rand.NewPCG(r.Uint64(), 1)), rest: data, breaks: r.IntN(6) == 0}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if r.IntN(10) == 0 {
		time.AfterFunc(time.Duration(r.IntN(3000))*time.Microsecond, cancel)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr.String()+"/", body)
	if err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		req.ContentLength = int64(len(data))
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil || body.breaks {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	if r.IntN(10) == 0 {
		return nil // a client that does not want the rest
	}
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil && (ctx.Err() != nil || body.breaks):
		return nil
	case err != nil:
		return fmt.Errorf("body of %d bytes: %w", len(data), err)
	case body.breaks && resp.StatusCode != 200:
		return nil
	case resp.StatusCode != 200 || !bytes.Equal(got, data):
		return fmt.Errorf("status %d, %d bytes for %d, error %s", resp.StatusCode, len(got), len(data), resp.Header.Get("x-error"))
	}
	return nil
}
