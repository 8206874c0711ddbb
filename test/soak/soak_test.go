package soak

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/test/pair"
)

var soak = flag.Duration("soak", 3*time.Second, "how long to soak")

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// application answers as the path asks: /echo well, the others as they say.
func application(w http.ResponseWriter, r *http.Request) {
	hijack := func(text string) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // HTTP/2 has no other way
		}
		defer c.Close()
		_, _ = rw.WriteString(text) // the client sees what arrives
		_ = rw.Flush()
		if tcp, ok := c.(*net.TCPConn); ok && strings.HasPrefix(r.URL.Path, "/reset") {
			_ = tcp.SetLinger(0)
		}
	}
	switch r.URL.Path {
	case "/echo":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(body)
	case "/big":
		chunk := bytes.Repeat([]byte("big "), 4096)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case "/late":
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
	case "/nothing", "/reset":
		hijack("")
	case "/garbage":
		hijack("\x00\x01 this is not HTTP \r\n\r\n")
	case "/truncated", "/reset-truncated":
		hijack("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
	case "/chunk":
		hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nshort")
	}
}

// bad are the paths whose answers are broken.
var bad = []string{"/nothing", "/reset", "/garbage", "/truncated", "/reset-truncated", "/chunk"}

// world is what the workers share.
type world struct {
	t      *testing.T
	p      *pair.Pair
	h1, h2 *http.Client
	good   atomic.Int64
	broken atomic.Int64
}

func (w *world) url(path string) string { return "http://" + pair.Web.Authority() + path }

func client(addr string, http2 bool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		Protocols: &protocols, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
}

func (w *world) any(r *rand.Rand) *http.Client {
	if r.IntN(2) == 0 {
		return w.h1
	}
	return w.h2
}

// Workers do one thing once; what they return is a failure of the mesh.

// echo is the client that must not notice anything.
func (w *world) echo(r *rand.Rand) error {
	body := bytes.Repeat([]byte{byte(r.Uint32())}, []int{0, 10, 1000, 100_000}[r.IntN(4)])
	resp, err := w.any(r).Post(w.url("/echo"), "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, body) {
		return fmt.Errorf("status %d, %d bytes for %d: %v %s", resp.StatusCode, len(got), len(body), err, resp.Header)
	}
	w.good.Add(1)
	return nil
}

// brokenServer asks for a broken answer, which must come as an error, either as
// a response of the proxy or as the end of the one that began.
func (w *world) brokenServer(r *rand.Rand) error {
	path := bad[r.IntN(len(bad))]
	resp, err := w.any(r).Get(w.url(path))
	if err != nil {
		w.broken.Add(1)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode < 500 {
		return fmt.Errorf("%s came as status %d with %d bytes", path, resp.StatusCode, len(body))
	}
	w.broken.Add(1)
	return nil
}

// cancel gives a request up while it runs.
func (w *world) cancel(r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(r.IntN(20))*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", w.url([]string{"/late", "/big"}[r.IntN(2)]), nil)
	if err != nil {
		return err
	}
	if resp, err := w.any(r).Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body) // ends when the time is up
		resp.Body.Close()
	}
	return nil
}

// raw speaks to the proxy by hand, and leaves at some point.
func (w *world) raw(r *rand.Rand) error {
	addr := []string{w.p.Outbound(pair.Web), w.p.Inbound(pair.Web)}[r.IntN(2)]
	c, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return err
	}
	defer c.Close()
	if r.IntN(2) == 0 {
		_ = c.(*net.TCPConn).SetLinger(0) // leave with a reset
	}
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	host := "\r\nHost: " + pair.Web.Authority() + "\r\n"
	text := []string{
		"", "G", "GET /big HT", "GET /big HTTP/1.1" + host, "GET /big HTTP/1.1" + host + "\r\n",
		"POST /echo HTTP/1.1" + host + "Content-Length: 100000\r\n\r\nfew",
		"POST /echo HTTP/1.1" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	}[r.IntN(10)]
	_, _ = io.WriteString(c, text)
	switch r.IntN(3) {
	case 0: // at once
	case 1: // read a little, slowly
		_, _ = bufio.NewReaderSize(c, 16).Peek(16)
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
	case 2:
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
	}
	return nil
}

// opaque moves bytes through the opaque service and checks them.
func (w *world) opaque(r *rand.Rand) error {
	c, err := net.DialTimeout("tcp", w.p.Outbound(pair.Opaque), time.Minute)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	sent := bytes.Repeat([]byte{byte(r.Uint32()), 1, 2}, 1+r.IntN(50_000))
	if r.IntN(4) == 0 {
		_, _ = c.Write(sent[:len(sent)/2]) // and leave
		return nil
	}
	go func() {
		_, _ = c.Write(sent) // the reader sees what is missing
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		return fmt.Errorf("opaque: %d bytes for %d: %v", len(got), len(sent), err)
	}
	w.good.Add(1)
	return nil
}

// echoTCP is the application of the opaque service.
func echoTCP(l net.Listener, conns *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
	}
}

func TestSoak(t *testing.T) {
	outstanding := buf.Count()
	web, opaque := listen(t), listen(t)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: http.HandlerFunc(application), Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0)}
	var servers sync.WaitGroup
	servers.Go(func() { _ = s.Serve(web) })
	servers.Go(func() { echoTCP(opaque, &servers) })
	t.Cleanup(func() {
		s.Close()
		opaque.Close()
		servers.Wait()
	})
	// Proxies give up what takes long, which on a busy machine may be anything.
	p := pair.New(t, pair.Env{
		"OUTBOUND_CONNECT_TIMEOUT": "1m", "INBOUND_CONNECT_TIMEOUT": "1m", "OUTBOUND_TCP_FAILFAST_TIMEOUT": "1m",
		"OUTBOUND_HTTP_FAILFAST_TIMEOUT": "1m", "INBOUND_HTTP_FAILFAST_TIMEOUT": "1m",
	})
	p.Serve(pair.Web, web)
	p.Serve(pair.Opaque, opaque)
	w := &world{t: t, p: p, h1: client(p.Outbound(pair.Web), false), h2: client(p.Outbound(pair.Web), true)}
	// A first round brings everything to life that lives long.
	w.round(time.Second)
	w.rest()
	before := usage(outstanding)
	t.Logf("before: %v", before)
	w.round(*soak)
	// On a machine that is busy for that long, nothing may have come of it yet.
	for began := time.Now(); (w.good.Load() == 0 || w.broken.Load() == 0) && time.Since(began) < time.Minute; {
		w.round(time.Second)
	}
	t.Logf("%d good requests, %d broken answers", w.good.Load(), w.broken.Load())
	if w.good.Load() == 0 || w.broken.Load() == 0 {
		t.Error("nothing was soaked")
	}
	var after state
	// Pools keep connections for seconds, and closed ones need a moment.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(250 * time.Millisecond) {
		w.rest()
		after = usage(outstanding)
		if after.leaks(before) == nil || time.Now().After(deadline) {
			break
		}
	}
	t.Logf("after: %v", after)
	if err := after.leaks(before); err != nil {
		t.Error(err)
		stacks := make([]byte, 1<<20)
		t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
	}
}

// round runs all workers for a time.
func (w *world) round(d time.Duration) {
	deadline := time.Now().Add(d)
	var workers sync.WaitGroup
	for i, f := range []func(*rand.Rand) error{w.echo, w.echo, w.echo, w.brokenServer, w.cancel, w.cancel, w.raw, w.raw, w.opaque} {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))
			for time.Now().Before(deadline) && !w.t.Failed() {
				if err := f(r); err != nil && !errors.Is(err, w.t.Context().Err()) {
					w.t.Errorf("worker %d: %v", i, err)
				}
			}
		})
	}
	workers.Wait()
}

// rest closes what the clients keep.
func (w *world) rest() {
	w.h1.CloseIdleConnections()
	w.h2.CloseIdleConnections()
}

// state is what a process holds.
type state struct {
	goroutines, descriptors, buffers int
	heap                             uint64
}

func usage(outstanding func() int) state {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, _ := os.ReadDir("/proc/self/fd")
	return state{goroutines: runtime.NumGoroutine(), descriptors: len(entries), buffers: outstanding(), heap: m.HeapAlloc}
}

// String is for the log.
func (s state) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d buffers, %s KB of heap", s.goroutines, s.descriptors, s.buffers, strconv.FormatUint(s.heap>>10, 10))
}

// leaks compares with a state before. Some things differ by what happens to be
// connected at the moment.
func (s state) leaks(before state) error {
	var err error
	for _, c := range []struct {
		what          string
		now, was, may int
	}{
		{"goroutines", s.goroutines, before.goroutines, 15}, {"descriptors", s.descriptors, before.descriptors, 10},
		{"buffers", s.buffers, before.buffers, 10}, {"KB of heap", int(s.heap >> 10), int(before.heap >> 10), 4096},
	} {
		if c.now > c.was+c.may {
			err = errors.Join(err, fmt.Errorf("%d %s, %d before", c.now, c.what, c.was))
		}
	}
	return err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
