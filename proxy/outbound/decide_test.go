package outbound

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/thdr"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		protocol model.Protocol
		opaque   bool
		found    detect.Protocol
		want     plan
		label    string
	}{
		{model.ProtocolHTTP1, false, 0, planHTTP1, "http/1"},
		{model.ProtocolHTTP2, false, 0, planHTTP2, "http/2"},
		{model.ProtocolGRPC, false, 0, planHTTP2, "http/2"},
		{model.ProtocolOpaque, false, 0, planOpaque, "opaq"},
		{model.ProtocolTLS, false, 0, planTLS, "tls"},
		{model.ProtocolHTTP1, true, 0, planOpaque, "opaq"},
		{model.ProtocolDetect, true, 0, planOpaque, "opaq"},
		{model.ProtocolDetect, false, detect.HTTP1, planHTTP1, "detect"},
		{model.ProtocolDetect, false, detect.HTTP2, planHTTP2, "detect"},
		{model.ProtocolDetect, false, detect.NotHTTP, planOpaque, "detect"},
		{model.ProtocolDetect, false, detect.Undecided, planOpaque, "detect"},
	} {
		got := afterDiscovery(&model.Target{Policy: &model.ClientPolicy{Protocol: c.protocol}, Opaque: c.opaque})
		if label := protocolLabel(got); label != c.label {
			t.Errorf("%v, opaque %v: label %s, want %s", c.protocol, c.opaque, label, c.label)
		}
		if got == planSniff {
			got = afterSniff(&model.Target{Policy: &model.ClientPolicy{Protocol: c.protocol}}, c.found, true)
		}
		if got != c.want {
			t.Errorf("%v, opaque %v, found %v: got %v, want %v", c.protocol, c.opaque, c.found, got, c.want)
		}
	}
}

// Where HTTP is not the only thing that routes are for, the application's own TLS may be.
func TestMaybeTLS(t *testing.T) {
	for _, c := range []struct {
		name   string
		target model.Target
		found  detect.Protocol
		client bool
		want   plan
	}{
		{"TLS, perhaps", model.Target{}, detect.NotHTTP, true, planMaybeTLS},
		{"HTTP", model.Target{}, detect.HTTP1, true, planHTTP1},
		{"the server speaks first", model.Target{}, detect.NotHTTP, false, planOpaque},
		{"nobody speaks", model.Target{}, detect.Undecided, true, planOpaque},
		{"a profile takes the place of routes", model.Target{ProfileTCP: true}, detect.NotHTTP, true, planOpaque},
	} {
		c.target.Policy = &model.ClientPolicy{TLS: &model.TCPPolicy{}}
		if got := afterSniff(&c.target, c.found, c.client); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestReached(t *testing.T) {
	e := &model.Endpoint{
		Addr: netip.MustParseAddrPort("10.0.0.1:80"), TLS: model.DNSTLS(model.MustIdentity("a.b")), Hint: model.HintH2,
		TransportPort: 4143, Authority: "x:80",
	}
	if got, local := reached(e, nil); got != e || local {
		t.Errorf("got %+v, %v", got, local)
	}
	got, local := reached(e, []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	if !local || !got.TLS.IsZero() || got.TransportPort != 0 || got.Authority != "" || carries(got, false) {
		t.Errorf("got %+v, %v", got, local)
	}
	if !carries(e, false) || carries(e, true) {
		t.Error("only HTTP/1 is carried")
	}
}

func TestHeader(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:3306")
	for _, c := range []struct {
		name    string
		model   model.Endpoint
		session thdr.Session
		want    thdr.Header
	}{
		{"port", model.Endpoint{Addr: addr, TransportPort: 4143}, thdr.HTTP2, thdr.Header{Port: 3306, Session: thdr.HTTP2}},
		{"opaque", model.Endpoint{Addr: addr, TransportPort: 4143}, thdr.Opaque, thdr.Header{Port: 3306}},
		{"opaque hint", model.Endpoint{Addr: addr, TransportPort: 4143, Hint: model.HintOpaque}, thdr.HTTP1, thdr.Header{Port: 3306}},
		{"gateway", model.Endpoint{Addr: addr, Authority: "web.ns:8080"}, thdr.HTTP2, thdr.Header{Port: 8080, Name: "web.ns", Session: thdr.HTTP2}},
		{"gateway without port", model.Endpoint{Addr: addr, Authority: "web.ns"}, thdr.HTTP1, thdr.Header{Port: 80, Name: "web.ns", Session: thdr.HTTP1}},
	} {
		if got := (&endpoint{model: &c.model}).header(c.session); got != c.want {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

func TestOverride(t *testing.T) {
	for in, want := range map[string]string{
		"web.ns.svc.cluster.local:8080": "web.ns.svc.cluster.local:8080", "web.ns": "web.ns:80",
		"10.0.0.1:80": "error", "not an authority": ":0", "": ":0",
	} {
		h := &exchange.RequestHead{}
		if in != "" {
			h.Add("L5d-Dst-Override", in)
		}
		name, port, err := override(h)
		got := fmt.Sprintf("%s:%d", name, port)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// TestErrors is the table of causes: what is answered, how it is counted.
func TestErrors(t *testing.T) {
	at := func(err error) error { return &routeError{model.Default("http"), err} }
	reset := func(code uint32) error { return &exchange.ResetError{Code: code, Remote: true} }
	refusedByOS := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		name string
		err  error
		// above and below are what is answered before and at the endpoint:
		// status, closing, label; "reset" if nothing is.
		above, below string
		label        string
	}{
		{"fail-fast", at(balance.ErrFailfast), "504 close failfast", "502 close", "FAIL_FAST"},
		{"shed", at(balance.ErrLoadShed), "503 close loadshed", "502 close", "LOAD_SHED"},
		{"request timeout", at(&deadline.Error{Kind: deadline.Request, Limit: time.Second}), "504 response timeout", "reset", "REQUEST_TIMEOUT"},
		{"profile timeout", &deadline.Error{Kind: deadline.Profile, Limit: time.Second}, "504 close response timeout", "reset", "REQUEST_TIMEOUT"},
		{"connect timeout", at(&netx.ConnectTimeout{After: time.Second}), "500 close unexpected", "504 close", "UNKNOWN"},
		{"connection refused", refusedByOS, "500 close unexpected", "502 close", "IO"},
		{"end of stream", io.EOF, "500 close unexpected", "502 close", "IO"},
		{"reset", reset(exchange.CodeCancel), "reset", "reset", "CANCEL"},
		{"refused", reset(exchange.CodeRefusedStream), "reset", "reset", "REFUSED"},
		{"calm", reset(exchange.CodeEnhanceYourCalm), "reset", "reset", "ENHANCE_YOUR_CALM"},
		{"protocol", reset(exchange.CodeProtocol), "reset", "reset", "RESET"},
		{"client gone", at(exchange.ErrClientGone), "reset", "reset", "CANCEL"},
		{"ingress", &ingressError{"x"}, "reset", "502 close", "UNKNOWN"},
		{"no authority", uri.ErrNoAuthority, "500 close unexpected", "502 close", "UNKNOWN"},
		{"refusal", at(refusal.NotFound("no route")), "404", "reset", "UNKNOWN"},
		{"anything", errors.New("x"), "500 close unexpected", "502 close", "UNKNOWN"},
	} {
		describe := func(r *refusal.Refusal) string {
			if r == nil {
				return "reset"
			}
			s := fmt.Sprint(r.Status)
			if r.Close {
				s += " close"
			}
			if r.Label != "" {
				s += " " + r.Label
			}
			return s
		}
		if got := describe(refuse(c.err, exchange.HTTP2)); got != c.above {
			t.Errorf("%s above: got %s, want %s", c.name, got, c.above)
		}
		if got := describe(atEndpoint(c.err, exchange.HTTP2)); got != c.below {
			t.Errorf("%s below: got %s, want %s", c.name, got, c.below)
		}
		if got := errorLabel(c.err); got != c.label {
			t.Errorf("%s: label %s, want %s", c.name, got, c.label)
		}
	}
	if got := refuse(reset(exchange.CodeCancel), exchange.HTTP11); got == nil || got.Status != 500 {
		t.Errorf("a reset has no meaning to an HTTP/1 client: got %v", got)
	}
}

func TestHTTP2Options(t *testing.T) {
	own := h2.Options{InitialStreamWindow: 1, InitialConnectionWindow: 2}
	if got := http2Options(own, &model.HTTP2Params{}); got.InitialStreamWindow != 1 || got.InitialConnectionWindow != 2 || got.KeepAliveInterval != 0 {
		t.Errorf("got %+v", got)
	}
	got := http2Options(own, &model.HTTP2Params{
		StreamWindow: 3, ConnectionWindow: 4, KeepAliveInterval: 10 * time.Second, KeepAliveTimeout: 3 * time.Second, KeepAliveWhileIdle: true,
	})
	if got.InitialStreamWindow != 3 || got.InitialConnectionWindow != 4 || got.KeepAliveInterval != 10*time.Second || !got.KeepAliveWhileIdle {
		t.Errorf("got %+v", got)
	}
}
