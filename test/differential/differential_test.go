package differential

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/test/pair"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var (
	seed     = flag.Uint64("seed", 0, "seed of the script; from the clock if 0")
	requests = flag.Int("requests", 150, "how many requests the script has")
)

// A request is one of the script, and what the application is to answer; the
// answer is asked for in the request, so that the application needs no state.
type request struct {
	method, path string
	header       http.Header
	body         []byte
	// chunk is how the body is sent: in pieces of that size without a length
	// in advance, or at once if it is 0.
	chunk   int
	trailer http.Header
}

// script makes requests.
func script(r *rand.Rand, n int) []request {
	all := make([]request, n)
	for i := range all {
		all[i] = oneRequest(r)
	}
	return all
}

func oneRequest(r *rand.Rand) request {
	q := request{
		method: pick(r, "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"),
		path:   "/" + pick(r, "", "a", "a/b", "a//b", "a/./b", "a%2Fb", "ü", "a;b=c", "a+b%20c", strings.Repeat("long/", 50)),
		header: http.Header{},
	}
	query := url.Values{}
	query.Set("status", pick(r, "200", "200", "200", "201", "204", "206", "301", "304", "400", "404", "418", "500", "503"))
	query.Set("size", strconv.Itoa(size(r)))
	if r.IntN(3) == 0 {
		query.Set("chunked", "1")
	}
	if r.IntN(5) == 0 {
		query.Set("trailer", value(r))
	}
	if r.IntN(5) == 0 {
		query.Set("early", "1") // answers before the body was read
	}
	q.path = (&url.URL{Path: q.path, RawQuery: query.Encode()}).String()
	for range r.IntN(6) {
		name := "X-" + pick(r, "One", "Two", "Three", "four-Five")
		q.header.Add(name, value(r))
	}
	if r.IntN(3) == 0 {
		q.header.Set("Cookie", "a="+strconv.Itoa(r.IntN(100))+"; b=2")
	}
	if r.IntN(4) == 0 {
		q.header.Set("Accept-Encoding", pick(r, "gzip", "identity", "br, gzip;q=0.5"))
	}
	switch q.method {
	case "POST", "PUT", "PATCH", "PROPFIND":
		q.body = make([]byte, size(r))
		for i := range q.body {
			q.body[i] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			q.chunk = 1 + r.IntN(5000)
			if r.IntN(2) == 0 {
				q.trailer = http.Header{"X-Trailer": {value(r)}}
			}
		}
	}
	return q
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

// size is that of a body: mostly small, sometimes more than every buffer.
func size(r *rand.Rand) int {
	return []int{0, 1, r.IntN(100), r.IntN(5000), r.IntN(70000), r.IntN(400000)}[min(r.IntN(12), 5)]
}

// value is that of a header: printable, and with what is legal beyond.
func value(r *rand.Rand) string {
	const letters = "abcXYZ019 \t,;=\"()<>@/?{}~é"
	var b strings.Builder
	for range r.IntN(30) {
		b.WriteString(string([]rune(letters)[r.IntN(len([]rune(letters)))]))
	}
	return strings.TrimSpace(b.String())
}

// application answers what the request asks for, and tells what it saw. Fields
// that say which version and which hops there were are left out.
func application(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	n, _ := strconv.Atoi(q.Get("size"))
	status, _ := strconv.Atoi(q.Get("status"))
	var body []byte
	var err error
	// Not over HTTP/2: every few thousand such requests, the client and the
	// server of net/http end their connection with GOAWAY, without any proxy.
	early := q.Get("early") != "" && len(q.Get("trailer")) == 0 && r.ProtoMajor == 1
	if !early {
		body, err = io.ReadAll(r.Body)
	}
	sum := fmt.Sprintf("%s %q host=%s body=%d:%x err=%v %s trailer=%v", r.Method, r.RequestURI, r.Host, len(body), sha256.Sum256(body), err,
		fields(r.Header), r.Trailer)
	w.Header().Set("X-Saw", fmt.Sprintf("%x", sha256.Sum256([]byte(sum))))
	w.Header().Set("X-Saw-Text", strconv.QuoteToASCII(sum)[:min(len(strconv.QuoteToASCII(sum)), 1500)])
	w.Header().Add("Set-Cookie", "one=1")
	w.Header().Add("Set-Cookie", "two=2")
	w.Header().Set("Location", "/elsewhere")
	if q.Has("trailer") {
		w.Header().Set("Trailer", "X-Late")
	} else if q.Get("chunked") == "" && status != 204 && status != 304 {
		w.Header().Set("Content-Length", strconv.Itoa(n))
	}
	w.WriteHeader(status)
	if status == 204 || status == 304 {
		return
	}
	for left := n; left > 0; {
		piece := min(left, 7000)
		if _, err := w.Write(bytes.Repeat([]byte{byte(left)}, piece)); err != nil {
			return
		}
		left -= piece
	}
	if q.Has("trailer") {
		w.Header().Set("X-Late", q.Get("trailer"))
	}
}

// ours are the fields that the mesh adds, or that belong to one hop.
var ours = []string{"L5d-", "Connection", "Te", "Transfer-Encoding", "Keep-Alive", "Date", "Forwarded", "X-Forwarded", "Content-Length", "Trailer"}

// fields are those that the application or its client has to get.
func fields(h http.Header) string {
	var lines []string
next:
	for name, values := range h {
		for _, o := range ours {
			if strings.HasPrefix(name, o) {
				continue next
			}
		}
		lines = append(lines, fmt.Sprintf("%s=%q", name, values))
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// A path is a way to the application.
type path struct {
	name  string
	addr  string
	http2 bool
}

// client is one that goes a path.
func (p path) client() *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!p.http2)
	protocols.SetUnencryptedHTTP2(p.http2)
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			Protocols: &protocols, DisableCompression: true, MaxIdleConnsPerHost: 4,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, p.addr)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do makes a request and tells all of the result that a client can see.
func do(c *http.Client, q request) string {
	var body io.Reader
	switch {
	case q.chunk > 0:
		body = &pieces{q.body, q.chunk}
	case len(q.body) > 0:
		body = bytes.NewReader(q.body)
	}
	// One name for all services: what the application sees must not differ.
	r, err := http.NewRequest(q.method, "http://web.ns.svc.cluster.local"+q.path, body)
	if err != nil {
		return err.Error()
	}
	r.Header = q.header.Clone()
	r.Header.Set("User-Agent", "differential")
	r.Trailer = q.trailer.Clone()
	resp, err := c.Do(r)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			err = urlErr.Err
		}
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	length := ""
	if q.method == "HEAD" {
		length = resp.Header.Get("Content-Length")
	}
	return fmt.Sprintf("%d %d:%x err=%v length=%s %s trailer=%v", resp.StatusCode, len(got), sha256.Sum256(got), err, length, fields(resp.Header), resp.Trailer)
}

// pieces is a body that comes in pieces.
type pieces struct {
	rest []byte
	size int
}

// Read is io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func TestSameOnEveryPath(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test ./test/differential -seed %d -requests %d", *seed, *requests)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: http.HandlerFunc(application), Protocols: &protocols, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	// Proxies give up what takes long, which on a busy machine may be anything.
	p := pair.New(t, pair.Env{
		"OUTBOUND_CONNECT_TIMEOUT": "1m", "INBOUND_CONNECT_TIMEOUT": "1m", "OUTBOUND_TCP_FAILFAST_TIMEOUT": "1m",
		"OUTBOUND_HTTP_FAILFAST_TIMEOUT": "1m", "INBOUND_HTTP_FAILFAST_TIMEOUT": "1m",
	})
	for _, service := range []pair.Service{pair.Web, pair.Opaque, pair.Plain} {
		p.Serve(service, l)
	}
	paths := []path{
		{"direct", l.Addr().String(), false},
		{"meshed", p.Outbound(pair.Web), false},
		{"meshed, opaque", p.Outbound(pair.Opaque), false},
		{"unmeshed server", p.Outbound(pair.Plain), false},
		{"unmeshed client", p.Inbound(pair.Web), false},
		{"unmeshed client, opaque", p.Inbound(pair.Opaque), false},
	}
	for _, q := range slices.Clone(paths) {
		paths = append(paths, path{q.name, q.addr, true})
	}
	clients := make([]*http.Client, len(paths))
	for i, q := range paths {
		clients[i] = q.client()
		t.Cleanup(clients[i].CloseIdleConnections)
	}
	different := 0
	for i, q := range script(rand.New(rand.NewPCG(*seed, 0)), *requests) {
		// The two versions differ from each other in what net/http makes of
		// them; paths of the same version must not.
		want := map[bool]string{}
		for j, way := range paths {
			got := do(clients[j], q)
			if way.name == "direct" {
				want[way.http2] = got
				continue
			}
			if got != want[way.http2] {
				different++
				t.Errorf("request %d, %s %s, header %q, body %d in %d: %s, HTTP/2 %v:\n got %s\nwant %s", i, q.method, q.path, q.header,
					len(q.body), q.chunk, way.name, way.http2, got, want[way.http2])
			}
		}
		if different > 10 {
			t.Fatal("and so on")
		}
	}
}
