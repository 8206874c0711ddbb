package origproto

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestThereAndBack(t *testing.T) {
	for _, c := range []struct {
		version  exchange.Version
		absolute bool
		value    string
		form     Form
	}{
		{exchange.HTTP11, false, "HTTP/1.1", HTTP11},
		{exchange.HTTP10, false, "HTTP/1.0", HTTP10},
		{exchange.HTTP11, true, "HTTP/1.1; absolute-form", HTTP11},
	} {
		h := &exchange.RequestHead{Version: c.version, AbsoluteForm: c.absolute}
		h.Add("Connection", "keep-alive, X-Hop")
		h.Add("X-Hop", "1")
		h.Add("Transfer-Encoding", "chunked")
		h.Add("L5d-Orig-Proto", "lies")
		h.Add("Host", "web")
		Upgrade(h)
		if h.Version != exchange.HTTP2 || string(h.Get(header)) != c.value || len(h.List) != 2 {
			t.Errorf("%s: upgraded to %+v", c.value, h)
		}
		if form := Restore(h); form != c.form || h.Version != c.version || h.AbsoluteForm != c.absolute || h.Has(header) || len(h.List) != 1 {
			t.Errorf("%s: restored to %+v", c.value, h)
		}
		r := &exchange.ResponseHead{Version: c.version, Status: 200}
		r.Add("Keep-Alive", "timeout=5")
		Mark(r)
		if len(r.List) != 1 {
			t.Errorf("%s: marked %+v", c.value, r)
		}
		Downgrade(r)
		if r.Version != c.version || len(r.List) != 0 {
			t.Errorf("%s: downgraded to %+v", c.value, r)
		}
	}
}

func TestNotCarried(t *testing.T) {
	h := &exchange.RequestHead{Version: exchange.HTTP2}
	if Restore(h) != None || h.Version != exchange.HTTP2 {
		t.Error("an HTTP/2 request was changed")
	}
	h = &exchange.RequestHead{Version: exchange.HTTP11}
	h.Add(header, "HTTP/1.0")
	if Restore(h) != None || h.Version != exchange.HTTP11 {
		t.Error("an HTTP/1 request was changed")
	}
}

// TestHostOfACarriedRequest: the authority becomes what the application will see.
func TestHostOfACarriedRequest(t *testing.T) {
	for _, c := range []struct{ authority, host, proto, want string }{
		{"a", "a", http11, "a"},
		{"a", "b:80", http11, "b:80"},
		{"a", "b", http10, "b"},
		{"a", "", http11, "a"},
		{"a", "b/c", http11, "a"}, // no host: as without one
		{"a", "b", http11 + absolute, "a"},
	} {
		h := &exchange.RequestHead{Version: exchange.HTTP2, Method: []byte("GET"), Authority: []byte(c.authority)}
		if c.host != "" {
			h.Add("host", c.host)
		}
		h.Add(header, c.proto)
		if Restore(h); string(h.Authority) != c.want {
			t.Errorf("authority %s, host %s, %s: restored to %s, want %s", c.authority, c.host, c.proto, h.Authority, c.want)
		}
	}
}
