package accesslog

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func entry() *Entry {
	req := &exchange.RequestHead{
		Method: []byte("GET"), Authority: []byte("web:80"), Path: []byte("/a?b=c"), Version: exchange.HTTP11,
	}
	req.Add("Host", "web:80")
	req.Add("User-Agent", "curl/8 \"x\"")
	req.Add("X-Request-Id", "r1")
	resp := &exchange.ResponseHead{Status: 200}
	resp.Add("Content-Length", "12")
	return &Entry{
		Client: netip.MustParseAddrPort("10.0.0.1:5000"), ClientID: "a.b.serviceaccount.identity.linkerd.cluster.local",
		Received: time.Date(2026, 1, 2, 3, 4, 5, 6007, time.UTC), Total: 1500 * time.Microsecond, Processing: 500 * time.Microsecond,
		Request: req, Response: resp,
	}
}

func TestApache(t *testing.T) {
	var out strings.Builder
	l := New(Apache, &out)
	e := entry()
	l.Write(e)
	e.ClientID, e.Response, e.Request.Authority = "", nil, nil
	l.Write(e)
	want := `10.0.0.1:5000 a.b.serviceaccount.identity.linkerd.cluster.local - [2026-01-02T03:04:05.000006007Z] "GET http://web:80/a?b=c HTTP/1.1" 200
10.0.0.1:5000 - - [2026-01-02T03:04:05.000006007Z] "GET /a?b=c HTTP/1.1" 0
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	New(JSON, &out).Write(entry())
	want := `{"client.addr":"10.0.0.1:5000","client.id":"a.b.serviceaccount.identity.linkerd.cluster.local",` +
		`"timestamp":"2026-01-02T03:04:05.000006007Z","method":"GET","uri":"http://web:80/a?b=c","version":"HTTP/1.1",` +
		`"trace_id":"r1","request_bytes":"","status":200,"response_bytes":"12","total_ns":"1500000","processing_ns":"500000",` +
		`"user_agent":"curl/8 \"x\"","host":"web:80"}` + "\n"
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestNilWritesNothing(t *testing.T) { (*Log)(nil).Write(entry()) }
