package admin

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/logfilter"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
)

// recorder is a codec that keeps what it is told to send.
type recorder struct {
	head *exchange.ResponseHead
	body bytes.Buffer
}

func (r *recorder) Respond(head *exchange.ResponseHead, body exchange.Body) error {
	r.head = head
	for !body.Ended() {
		f, err := body.Next()
		if err != nil {
			return err
		}
		r.body.Write(f.Data)
		if f.End {
			break
		}
	}
	return nil
}
func (r *recorder) Tunnel(*exchange.ResponseHead, net.Conn) error { return exchange.ErrNoTunnel }
func (r *recorder) CloseAfter()                                   {}

type peer netip.AddrPort

func (p peer) Client() netip.AddrPort { return netip.AddrPort(p) }

// trusted is a peer that a policy names.
type trusted struct{ peer }

func (trusted) Trusted() bool { return true }

// do sends "METHOD path" with a body from an address, which "trusted " may
// precede, and gives the answer.
func do(h *Handler, from, request, body string, fields ...string) *recorder {
	method, path, _ := strings.Cut(request, " ")
	r := &recorder{}
	x := &exchange.Exchange{
		Request: &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte(method), Path: []byte(path)},
		Body:    exchange.Empty, Responder: r,
	}
	addr, isTrusted := strings.CutPrefix(from, "trusted ")
	p := peer(netip.MustParseAddrPort(addr))
	if x.Conn = p; isTrusted {
		x.Conn = trusted{p}
	}
	if body != "" {
		x.Body = &exchange.Bytes{Data: []byte(body)}
	}
	for i := 0; i < len(fields); i += 2 {
		x.Request.Add(fields[i], fields[i+1])
	}
	h.Serve(x)
	return r
}

func TestEndpoints(t *testing.T) {
	const here, there = "127.0.0.1:5", "10.0.0.1:5"
	newHandler := func(ready bool, shutdown func()) *Handler {
		l, err := logs.New(logs.Options{Out: io.Discard, Filter: "warn,linkerd=info"})
		if err != nil {
			t.Fatal(err)
		}
		return New(Options{
			Ready: func() bool { return ready }, Logs: l, Shutdown: shutdown,
			Metrics: func(b []byte) []byte { return append(b, "a 1\n"...) },
			Environ: func() []string { return []string{"LINKERD2_PROXY_A=1", "B=x=y", "C="} },
			Config:  func() ([]byte, error) { return []byte("{}"), nil },
		})
	}
	down := 0
	up, starting := newHandler(true, func() { down++ }), newHandler(false, nil)
	for _, c := range []struct {
		h             *Handler
		from, request string
		body          string
		want          string
	}{
		{up, there, "GET /live", "", `200 text/plain "live\n"`},
		{up, there, "GET /ready", "", `200 text/plain "ready\n"`},
		{up, there, "HEAD /ready", "", `200 text/plain ""`},
		{starting, there, "GET /ready", "", `503  "not ready\n"`},
		{starting, there, "GET /live", "", `200 text/plain "live\n"`},
		{up, there, "GET /metrics", "", `200 text/plain "a 1\n"`},
		{up, there, "GET /nothing", "", `404  ""`},
		{up, here, "GET /env.json", "", `200 application/json "{\"B\":\"REDACTED\",\"C\":\"\",\"LINKERD2_PROXY_A\":\"1\"}"`},
		{up, here, "GET /env.json?B&D", "", `200 application/json "{\"B\":\"REDACTED\",\"D\":null}"`},
		{up, there, "GET /env.json", "", `403 text/plain "Requests are only permitted from localhost."`},
		{up, "trusted " + there, "GET /env.json?LINKERD2_PROXY_A", "", `200 application/json "{\"LINKERD2_PROXY_A\":\"1\"}"`},
		{up, here, "GET /config.json", "", `200 application/json "{}"`},
		{up, there, "GET /config.json", "", `403 text/plain "Requests are only permitted from localhost."`},
		{up, "trusted " + there, "GET /config.json", "", `200 application/json "{}"`},
		{up, here, "GET /env.json?A=1", "", "400 application/json \"{\\\"error\\\":\\\"env.json query parameters may not contain `=`\\\",\\\"status\\\":400}\""},
		{up, here, "POST /env.json", "", `405  "" allow=GET`},
		{up, there, "GET /proxy-log-level", "", `403 text/plain "Requests are only permitted from localhost."`},
		{up, here, "GET /proxy-log-level", "", `200  "warn,linkerd=info"`},
		{up, "[::ffff:127.0.0.1]:5", "PUT /proxy-log-level", "linkerd=loud", `400  "invalid filter directive \"linkerd=loud\": \"loud\" is not a level"`},
		{up, here, "PUT /proxy-log-level", "debug", `204  ""`},
		{up, here, "GET /proxy-log-level", "", `200  "debug"`},
		{up, here, "POST /proxy-log-level", "", `405  "" allow=GET allow=PUT`},
		{up, there, "GET /logs.json?debug", "", `403 text/plain "Requests are only permitted from localhost."`},
		{up, here, "GET /logs.json", "", `400 application/json "{\"error\":\"missing log filter\",\"status\":400}"`},
		{up, here, "DELETE /logs.json", "", `405  "" allow=GET allow=QUERY`},
		{up, there, "POST /shutdown", "", `403 text/plain "Requests are only permitted from localhost."`},
		{up, here, "GET /shutdown", "", `405  "" allow=POST`},
		{up, here, "POST /shutdown", "", `200 text/plain "shutdown\n"`},
		{up, here, "POST /shutdown", "", `200 text/plain "shutdown\n"`},
		{starting, here, "POST /shutdown", "", `404 text/plain "shutdown endpoint is not enabled\n"`},
		{up, here, "GET /debug/pprof/profile.pb.gz", "", `404  ""`},
	} {
		r := do(c.h, c.from, c.request, c.body)
		got := fmt.Sprintf("%d %s %q", r.head.Status, r.head.Get("content-type"), r.body.String())
		for _, f := range r.head.List {
			if f.Is("allow") {
				got += " allow=" + string(f.Value)
			}
		}
		if got != c.want {
			t.Errorf("%s from %s: got %s, want %s", c.request, c.from, got, c.want)
		}
	}
	if down != 1 {
		t.Errorf("shut down %d times", down)
	}
}

func TestMetricsGzip(t *testing.T) {
	h := New(Options{Metrics: func(b []byte) []byte { return append(b, "a 1\n"...) }})
	r := do(h, "10.0.0.1:1", "GET /metrics", "", "Accept-Encoding", "deflate, gzip;q=1.0")
	z, err := gzip.NewReader(&r.body)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(z); string(text) != "a 1\n" || string(r.head.Get("content-encoding")) != "gzip" {
		t.Errorf("got %q", text)
	}
}

func TestLogStream(t *testing.T) {
	l, err := logs.New(logs.Options{Out: io.Discard, Filter: "off"})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := logfilter.Parse("debug")
	e := &events{sub: l.Subscribe(f), closed: make(chan struct{})}
	defer e.sub.Close()
	for range 260 {
		l.Logger().Debug("x")
	}
	if f, err := e.Next(); err != nil || string(f.Data) != "{\"dropped_events\":4}\n" {
		t.Errorf("got %q, %v", f.Data, err)
	}
	if f, err := e.Next(); err != nil || !strings.Contains(string(f.Data), `"message":"x"`) {
		t.Errorf("got %q, %v", f.Data, err)
	}
	for e.Ready() {
		_, _ = e.Next()
	}
	e.Close(nil)
	e.Close(nil)
	if _, err := e.Next(); err == nil {
		t.Error("a closed stream went on")
	}
}
