package accesslog

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

const clientID = "a.b.serviceaccount.identity.linkerd.cluster.local"

func at(d time.Duration) time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6007, time.UTC).Add(d) }

// entry is a request of which everything is known.
func entry(l *Log) *Entry {
	req := &exchange.RequestHead{
		Method: []byte("GET"), Authority: []byte("web:80"), Path: []byte("/a?b=c"), Version: exchange.HTTP11,
	}
	req.Add("Host", "web:80")
	req.Add("User-Agent", "curl/8 \"x\"")
	req.Add("X-Request-Id", "r1")
	resp := &exchange.ResponseHead{Status: 200}
	resp.Add("Content-Length", "12")
	e := l.Begin(netip.MustParseAddrPort("10.0.0.1:5000"), clientID, at(0))
	e.Request(req, exchange.HTTP11)
	// What becomes of the head later is not what was asked for.
	req.Path = []byte("/rewritten")
	e.Request(req, exchange.HTTP2)
	e.Response(resp, at(1500*time.Microsecond))
	e.Elsewhere, e.Duration = time.Millisecond, 2500*time.Microsecond
	e.ResponseBytes = 12
	return e
}

func TestApache(t *testing.T) {
	var out strings.Builder
	l := New(Apache, &out)
	e := entry(l)
	l.Write(e)
	e.ClientID, e.Status, e.uri = "", 0, "/a?b=c"
	l.Write(e)
	want := `10.0.0.1:5000 ` + clientID + ` - [2026-01-02T03:04:05.000006007Z] "GET http://web:80/a?b=c HTTP/1.1" 200
10.0.0.1:5000 - - [2026-01-02T03:04:05.000006007Z] "GET /a?b=c HTTP/1.1" 0
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestApacheExtended(t *testing.T) {
	var out strings.Builder
	l := Outbound(ApacheExtended, &out)
	e := entry(l)
	l.Write(e)
	e.RequestBytes, e.ResponseBytes, e.Server, e.GRPC = 3, 5, netip.MustParseAddrPort("10.0.0.2:80"), "14"
	e.Error = `broke "off"`
	l.Write(e)
	const head = `10.0.0.1:5000 ` + clientID + ` - [2026-01-02T03:04:05.000006007Z] "GET http://web:80/a?b=c HTTP/1.1" 200 `
	want := head + `outbound - 12 2500 - - "-"` + "\n" + head + `outbound 3 5 2500 10.0.0.2:80 14 "broke \"off\""` + "\n"
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	l := New(JSON, &out)
	e := entry(l)
	l.Write(e)
	want := `{"client.addr":"10.0.0.1:5000","client.id":"` + clientID + `",` +
		`"timestamp":"2026-01-02T03:04:05.000006007Z","method":"GET","uri":"http://web:80/a?b=c","version":"HTTP/1.1",` +
		`"trace_id":"r1","request_bytes":"","status":200,"response_bytes":"12","total_ns":"1500000","processing_ns":"500000",` +
		`"user_agent":"curl/8 \"x\"","host":"web:80","direction":"inbound","duration_ns":"2500000","grpc_status":"","error":""}` + "\n"
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
	out.Reset()
	l = Outbound(JSON, &out)
	e.Server, e.ServerID = netip.MustParseAddrPort("10.0.0.2:80"), "web"
	l.Write(e)
	if !strings.Contains(out.String(), `"direction":"outbound","server.addr":"10.0.0.2:80","server.id":"web","duration_ns"`) {
		t.Errorf("got:\n%s", out.String())
	}
}

// TestSizes: what was told counts where nothing or all of it went by, as with
// HEAD; of a body that was cut, or came without a length, what went by does.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		told int64
		seen uint64
		want string
	}{{unknown, 0, ""}, {unknown, 7, "7"}, {12, 12, "12"}, {12, 5, "5"}, {12, 0, "12"}, {0, 0, "0"}} {
		if got := new(Entry).size(c.told, c.seen); got != c.want {
			t.Errorf("%d told, %d seen: got %q, want %q", c.told, c.seen, got, c.want)
		}
	}
}

func TestNilWritesNothing(t *testing.T) {
	var l *Log
	e := l.Begin(netip.AddrPort{}, "", time.Time{})
	if e != nil {
		t.Error("an entry was begun")
	}
	e.Request(&exchange.RequestHead{}, exchange.HTTP11)
	e.Response(&exchange.ResponseHead{}, time.Time{})
	l.Write(e)
}
