package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// witness is an application that remembers which requests it was asked.
type witness struct {
	mu   sync.Mutex
	seen []string
}

// ServeHTTP implements http.Handler.
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.seen = append(w.seen, fmt.Sprintf("%s %s %q", r.Method, r.URL.Path, body))
	w.mu.Unlock()
	fmt.Fprint(rw, r.URL.Path)
}

func (w *witness) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.seen, ", ")
	w.seen = nil
	return s
}

// statuses reads what a connection answers until its end. methods are those of the
// requests, if not GET.
func statuses(c net.Conn, methods ...string) string {
	var got []string
	r := bufio.NewReader(c)
	for i := 0; ; i++ {
		req := &http.Request{Method: "GET"}
		if i < len(methods) {
			req.Method = methods[i]
		}
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				got = append(got, err.Error())
			}
			return strings.Join(got, " ")
		}
		body, err := io.ReadAll(resp.Body)
		s := fmt.Sprint(resp.StatusCode)
		if len(body) > 0 {
			s += ":" + string(body)
		}
		if err != nil {
			s += "(cut)"
		}
		got = append(got, s)
	}
}

// TestRequestSmuggling writes requests that two parsers could take for different
// ones, with another request behind each. What the application was asked must be
// what the proxies understood, answer for answer: the path /smuggled is only ever
// within a body or behind something that is none.
func TestRequestSmuggling(t *testing.T) {
	const last = "GET /last HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
	// What has no request line of HTTP/1 is refused only where HTTP was spoken before.
	const first = "GET /first HTTP/1.1\r\nHost: web\r\n\r\n"
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: web\r\nX: "
	for _, c := range []struct {
		name, in string
		// answers are the responses, seen what the application was asked.
		answers, seen string
	}{
		{"length as a list", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5, 5\r\n\r\nhello" + last,
			"200:/a 200:/last", `POST /a "hello", GET /last ""`},
		{"length as a list of two", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5, 6\r\n\r\nhello" + last, "400", ""},
		{"length with a sign", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: +5\r\n\r\nhello" + last, "400", ""},
		{"negative length", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: -1\r\n\r\nhello" + last, "400", ""},
		{"length with a blank within", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5 0\r\n\r\nhello" + last, "400", ""},
		{"blank before the colon", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"length folded away", "POST /a HTTP/1.1\r\nHost: web\r\nX: y\r\n Content-Length: 40\r\n\r\n" + smuggled, "400", ""},
		{"identity after chunked", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"identity", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: identity\r\n\r\n" + last, "400", ""},
		{"vertical tab before chunked", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"quoted coding", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"coding with a parameter", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"both framings, length second", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + last, "400", ""},
		{"connection names the length", "POST /a HTTP/1.1\r\nHost: web\r\nConnection: Content-Length\r\nContent-Length: 55\r\n\r\n" + pad(smuggled, 55) + last,
			"200:/a 200:/last", fmt.Sprintf("POST /a %q, GET /last \"\"", pad(smuggled, 55))},
		{"connection names the coding", "POST /a HTTP/1.1\r\nHost: web\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"37\r\n" + pad(smuggled, 55) + "\r\n0\r\n\r\n" + last,
			"200:/a 200:/last", fmt.Sprintf("POST /a %q, GET /last \"\"", pad(smuggled, 55))},
		{"connection names the host", "GET /a HTTP/1.1\r\nConnection: Host\r\nHost: web\r\n\r\n" + last, "200:/a 200:/last", `GET /a "", GET /last ""`},
		{"chunk extensions", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;end\r\n\r\n" + last,
			"200:/a 200:/last", `POST /a "hello", GET /last ""`},
		{"chunk extension with a bare lf", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;x\nhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"chunk extension with a bare cr", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;x\rhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"endless chunk extension", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 5000) + "\r\nhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"chunk of more than 64 bits", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"chunk of the largest size", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"chunk in hexadecimal notation", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n" + last, "400 or nothing", ""},
		{"chunk whose end is missing", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n" + last, "400 or nothing", ""},
		{"trailers that frame", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\nHost: admin\r\n\r\n" + last,
			"200:/a 200:/last", `POST /a "hello", GET /last ""`},
		{"trailers with a fold", "POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z: 1\r\n\r\n" + last, "400 or nothing", ""},
		{"body of a GET", "GET /a HTTP/1.1\r\nHost: web\r\nContent-Length: 55\r\n\r\n" + pad(smuggled, 55) + last,
			"200:/a 200:/last", fmt.Sprintf("GET /a %q, GET /last \"\"", pad(smuggled, 55))},
		{"refused upgrade, then another", "GET /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + last,
			"200:/a 200:/last", `GET /a "", GET /last ""`},
		{"refused upgrade with a body", "POST /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 55\r\n\r\n" + pad(smuggled, 55) + last,
			"200:/a 200:/last", fmt.Sprintf("POST /a %q, GET /last \"\"", pad(smuggled, 55))},
		{"expectation of something else", "POST /a HTTP/1.1\r\nHost: web\r\nExpect: 100-continue, smuggled\r\nContent-Length: 5\r\n\r\nhello" + last,
			"200:/a 200:/last", `POST /a "hello", GET /last ""`},
		{"expectation with the body", "POST /a HTTP/1.1\r\nHost: web\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello" + last,
			"200:/a 200:/last", `POST /a "hello", GET /last ""`},
		{"two requests with one line end", "GET /a HTTP/1.1\r\nHost: web\n\n" + last, "400", ""},
		{"line end within the target", first + "GET /a\rGET HTTP/1.1\r\nHost: web\r\n\r\n" + last, "200:/first 400", `GET /first ""`},
		{"version with a blank", first + "GET /a HTTP/1.1 \r\nHost: web\r\n\r\n" + last, "200:/first 400", `GET /first ""`},
		{"HTTP/0.9", first + "GET /a\r\n" + last, "200:/first 400", `GET /first ""`},
		{"HTTP/1.10", first + "GET /a HTTP/1.10\r\nHost: web\r\n\r\n" + last, "200:/first 400", `GET /first ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, door := range []string{"inbound", "both"} {
				m := newMesh(t, viaProxy)
				w := &witness{}
				m.serve(w)
				addr := m.inAddr
				if door == "both" {
					addr = m.outAddr
				}
				conn := m.dial(addr)
				_, _ = io.WriteString(conn, c.in)
				got := statuses(conn)
				if c.answers == "400 or nothing" {
					// The application may have been asked already: it saw the
					// request break off, and nothing after it.
					if strings.Contains(got, "200") || strings.Contains(got, "/last") {
						t.Errorf("%s: answered %q", door, got)
					}
				} else if got != c.answers {
					t.Errorf("%s: answered %q, want %q", door, got, c.answers)
				}
				seen := w.take()
				if strings.Contains(seen, "GET /smuggled") && !strings.Contains(seen, `"GET /smuggled`) {
					t.Errorf("%s: smuggled: %s", door, seen)
				}
				if c.answers != "400 or nothing" && seen != c.seen {
					t.Errorf("%s: the application saw %s, want %s", door, seen, c.seen)
				}
			}
		})
	}
}

// pad makes s n bytes long.
func pad(s string, n int) string { return s + strings.Repeat("x", n-len(s)) }

// TestNoTunnelForHTTP2: what asks to go on as HTTP/2 beside something else does not
// get through either. Requests within such a tunnel would be seen by no policy.
func TestNoTunnelForHTTP2(t *testing.T) {
	for _, upgrade := range []string{
		"Upgrade: h2c\r\n",
		"Upgrade: h2c, echo\r\n",
		"Upgrade: echo, H2C\r\n",
		"Upgrade: echo\r\nUpgrade: h2c\r\n",
		"Upgrade: h2c\r\nUpgrade: echo\r\n",
		"Upgrade: h2c,\r\n",
		"Upgrade: ,h2c\r\n",
		"Upgrade: h2c;q=1\r\n",
		"Upgrade: h2c/1\r\n",
	} {
		for _, door := range []string{"inbound", "both"} {
			m := newMesh(t, viaProxy)
			heads := make(chan string, 1)
			m.serveTCP(func(c net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				heads <- fmt.Sprint(req.Header["Upgrade"], req.Header["Http2-Settings"], req.Header["Connection"])
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			})
			addr := m.inAddr
			if door == "both" {
				addr = m.outAddr
			}
			c := m.dial(addr)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"+upgrade+"\r\n")
			if head := <-heads; head != "[] [] []" {
				t.Errorf("%s: %q reached the application: %s", door, upgrade, head)
			}
		}
	}
}

// TestSpellingsOfTheClientID: applications that know header fields by the names of
// variables (CGI, WSGI) take a low line for a hyphen, and some put trailers beside
// the header fields. Who a client is must not be said in any of these ways by others
// than the proxy.
func TestSpellingsOfTheClientID(t *testing.T) {
	m := newMesh(t, viaProxy)
	raw := make(chan string, 1)
	m.serveTCP(func(c net.Conn) {
		r := bufio.NewReader(c)
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "0\r\n\r\n") && !strings.HasSuffix(b.String(), "Y: 1\r\n\r\n") && !strings.HasSuffix(b.String(), "y: 1\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return // a connection that was made to see who speaks first
			}
			b.WriteString(line)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		raw <- b.String()
	})
	for addr, want := range map[string]int{m.outAddr: 1, m.inAddr: 0} {
		c := m.dial(addr)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"+
			"l5d-client-id: admin\r\nL5D-Client-ID: admin\r\nl5d_client_id: admin\r\nL5d-Client_Id: admin\r\n\r\n"+
			"2\r\nhi\r\n0\r\nL5d-Client-Id: admin\r\nl5d_client_id: admin\r\nY: 1\r\n\r\n")
		head := <-raw
		if strings.Contains(head, "admin") || strings.Count(strings.ReplaceAll(strings.ToLower(head), "_", "-"), "l5d-client-id") != want {
			t.Errorf("the application saw\n%s", head)
		}
		_, _ = io.Copy(io.Discard, c)
	}
}

// hand is an HTTP/2 client whose frames are written by hand.
type hand struct {
	*blocks
	t  *testing.T
	c  net.Conn
	fr *xhttp2.Framer
}

// blocks makes header blocks of one connection, in the order in which they are sent.
type blocks struct {
	buf bytes.Buffer
	enc *xhpack.Encoder
}

func newBlocks() *blocks {
	b := new(blocks)
	b.enc = xhpack.NewEncoder(&b.buf)
	return b
}

// of is the block of fields, names and values in turn. It is valid until the next.
func (b *blocks) of(fields ...string) []byte {
	b.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = b.enc.WriteField(xhpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.buf.Bytes()
}

func (m *mesh) hand(t *testing.T, addr string, s ...xhttp2.Setting) *hand {
	t.Helper()
	return handOn(t, m.dial(addr), s...)
}

// handOn is hand for a connection.
func handOn(t *testing.T, c net.Conn, s ...xhttp2.Setting) *hand {
	h := &hand{blocks: newBlocks(), t: t, c: c, fr: xhttp2.NewFramer(c, c)}
	h.fr.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
	h.fr.AllowIllegalWrites = true
	_, _ = io.WriteString(c, xhttp2.ClientPreface)
	_ = h.fr.WriteSettings(s...)
	return h
}

// headers opens a stream.
func (h *hand) headers(id uint32, end bool, fields ...string) {
	_ = h.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: h.of(fields...), EndHeaders: true, EndStream: end})
}

// answer reads until a stream has ended, and says how; or the connection.
func (h *hand) answer(id uint32) string {
	status, body := "", 0
	for {
		f, err := h.fr.ReadFrame()
		if err != nil {
			return "end"
		}
		if f.Header().StreamID != id && f.Header().StreamID != 0 {
			continue
		}
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			status += f.PseudoValue("status")
			if f.StreamEnded() {
				return fmt.Sprint(status, " ", body)
			}
		case *xhttp2.DataFrame:
			body += len(f.Data())
			if f.StreamEnded() {
				return fmt.Sprint(status, " ", body)
			}
		case *xhttp2.RSTStreamFrame:
			return strings.TrimSpace(status + " " + f.ErrCode.String())
		case *xhttp2.GoAwayFrame:
			return strings.TrimSpace(status + " GOAWAY " + f.ErrCode.String())
		}
	}
}

// TestCarriedRequestsOfStrangers: anybody can say that a request was carried over
// HTTP/2 for another proxy. Policies must have looked at the host that the
// application then sees.
func TestCarriedRequestsOfStrangers(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"open by its host", []string{":authority", "public", "host", "public", "l5d-orig-proto", "HTTP/1.1"}, "200 6"},
		{"closed", []string{":authority", "admin", "l5d-orig-proto", "HTTP/1.1"}, "403 0"},
		{"closed by its host", []string{":authority", "public", "host", "admin", "l5d-orig-proto", "HTTP/1.1"}, "403 0"},
		{"closed by its host in HTTP/1.0", []string{":authority", "public", "host", "admin", "l5d-orig-proto", "HTTP/1.0"}, "403 0"},
		{"closed by a host with another spelling", []string{":authority", "public", "host", "ADMIN:80", "l5d-orig-proto", "HTTP/1.1"}, "403 0"},
		// To an application the authority of an absolute form is what counts.
		{"absolute form", []string{":authority", "admin", "host", "public", "l5d-orig-proto", "HTTP/1.1; absolute-form"}, "403 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			var host atomic.Value
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				host.Store(r.Host)
				fmt.Fprint(w, r.Host)
			}))
			p := model.DefaultServerPolicy(model.AllUnauthenticated, nil, 10*time.Second, false)
			open := p.Routes.List[0]
			open.Authorizations, p.Authorizations = p.Authorizations, nil
			admin := open
			admin.Hosts, admin.Authorizations = []model.HostMatch{{Name: "admin"}}, nil
			p.Routes.List = []model.Route{open, admin}
			m.server.Set(p)
			h := m.hand(t, m.inAddr)
			h.headers(1, true, append([]string{":method", "GET", ":scheme", "http", ":path", "/"}, c.fields...)...)
			if got := h.answer(1); got != c.want {
				t.Errorf("answered %q, want %q; the application was asked as %v", got, c.want, host.Load())
			}
		})
	}
}

// TestNoTunnelInCarriedRequests: a tunnel cannot be carried, and an attempt leaves
// neither the application's connection nor the client's without an end.
func TestNoTunnelInCarriedRequests(t *testing.T) {
	m := newMesh(t, viaProxy)
	ended := make(chan error, 1)
	m.serveTCP(func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return // made to see who speaks first
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		_, err := io.Copy(io.Discard, r)
		ended <- err
	})
	h := m.hand(t, m.inAddr)
	h.headers(1, false, ":method", "CONNECT", ":authority", "web:80", "l5d-orig-proto", "HTTP/1.1")
	if got := h.answer(1); strings.HasPrefix(got, "200") {
		t.Errorf("answered %q", got)
	}
	_ = h.c.Close()
	<-ended
}

// TestHostilePeersOfHTTP2 attacks a whole inbound proxy frame by frame, with an
// application that has much to say. However it ends, others go on being served.
func TestHostilePeersOfHTTP2(t *testing.T) {
	get := []string{":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/"}
	post := []string{":method", "POST", ":scheme", "http", ":authority", "web", ":path", "/"}
	for _, c := range []struct {
		name     string
		settings []xhttp2.Setting
		attack   func(h *hand)
		want     string // how stream 1 ends, with alternatives
	}{
		{"window of a stream overflows", nil, func(h *hand) {
			h.headers(1, false, post...)
			_ = h.fr.WriteWindowUpdate(1, 1<<31-1)
		}, "FLOW_CONTROL_ERROR"},
		{"window of the connection overflows", nil, func(h *hand) {
			_ = h.fr.WriteWindowUpdate(0, 1<<31-1)
		}, "GOAWAY FLOW_CONTROL_ERROR"},
		{"window overflows by settings", nil, func(h *hand) {
			h.headers(1, false, post...)
			_ = h.fr.WriteWindowUpdate(1, 1<<30)
			_ = h.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}, "GOAWAY FLOW_CONTROL_ERROR"},
		{"depends on itself", nil, func(h *hand) {
			_ = h.fr.WritePriority(1, xhttp2.PriorityParam{StreamDep: 1})
		}, "PROTOCOL_ERROR"},
		{"empty data without an end", nil, func(h *hand) {
			h.headers(1, false, post...)
			for range 10000 {
				if h.fr.WriteData(1, false, nil) != nil {
					return
				}
			}
		}, "GOAWAY ENHANCE_YOUR_CALM"},
		{"padding of data without data", nil, func(h *hand) {
			h.headers(1, false, post...)
			for range 10000 {
				if h.fr.WriteDataPadded(1, false, nil, make([]byte, 200)) != nil {
					return
				}
			}
		}, "GOAWAY ENHANCE_YOUR_CALM"},
		{"header table of size 0 in the middle", nil, func(h *hand) {
			h.headers(1, true, get...)
			if got := h.answer(1); got != "200 200000" {
				h.t.Errorf("first %q", got)
			}
			_ = h.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 0})
			h.fr.ReadMetaHeaders.SetMaxDynamicTableSize(0)
			h.fr.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(0)
			h.enc.SetMaxDynamicTableSize(0)
			h.headers(1+2, true, get...)
			if got := h.answer(3); got != "200 200000" {
				h.t.Errorf("then %q", got)
			}
			h.headers(1+4, true, get...)
			if got := h.answer(5); got != "200 200000" {
				h.t.Errorf("then %q", got)
			}
			h.headers(1, true, get...)
		}, "GOAWAY STREAM_CLOSED"},
		{"huffman padding of zeros", nil, func(h *hand) {
			// A literal whose code for "a" (00011) is filled up with zeros.
			_ = h.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
				BlockFragment: []byte{0x82, 0x86, 0x84, 0x00, 0x81, 0x18, 0x01, 'b'}})
		}, "GOAWAY COMPRESSION_ERROR"},
		{"huffman padding of a whole byte", nil, func(h *hand) {
			_ = h.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
				BlockFragment: []byte{0x82, 0x86, 0x84, 0x00, 0x82, 0x1f, 0xff, 0x01, 'b'}})
		}, "GOAWAY COMPRESSION_ERROR"},
		{"huffman with the end of string", nil, func(h *hand) {
			_ = h.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true,
				BlockFragment: []byte{0x82, 0x86, 0x84, 0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, 'b'}})
		}, "GOAWAY COMPRESSION_ERROR"},
		{"line end in a value", nil, func(h *hand) {
			h.headers(1, true, append(get[:8:8], "x", "a\r\nhost: admin")...)
		}, "PROTOCOL_ERROR"},
		{"line end in a name", nil, func(h *hand) {
			h.headers(1, true, append(get[:8:8], "x: y\r\nhost", "admin")...)
		}, "PROTOCOL_ERROR"},
		{"colon in a name", nil, func(h *hand) {
			h.headers(1, true, append(get[:8:8], "x:y", "z")...)
		}, "PROTOCOL_ERROR"},
		{"coding of HTTP/1, carried", nil, func(h *hand) {
			h.headers(1, false, append(post[:8:8], "l5d-orig-proto", "HTTP/1.1", "transfer-encoding", "chunked")...)
		}, "PROTOCOL_ERROR"},
		{"request line in the path, carried", nil, func(h *hand) {
			h.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/ HTTP/1.1\r\nHost: admin", "l5d-orig-proto", "HTTP/1.1")
		}, "PROTOCOL_ERROR"},
		{"request line in the method, carried", nil, func(h *hand) {
			h.headers(1, true, ":method", "GET /admin HTTP/1.1", ":scheme", "http", ":authority", "web", ":path", "/", "l5d-orig-proto", "HTTP/1.1")
		}, "PROTOCOL_ERROR"},
		{"body longer than it says, carried", nil, func(h *hand) {
			h.headers(1, false, append(post[:8:8], "l5d-orig-proto", "HTTP/1.1", "content-length", "2")...)
			_ = h.fr.WriteData(1, true, []byte("okGET /admin HTTP/1.1"))
		}, "PROTOCOL_ERROR|400 45"},
		{"reads byte by byte", []xhttp2.Setting{{ID: xhttp2.SettingInitialWindowSize, Val: 1}}, func(h *hand) {
			h.headers(1, true, get...)
			// What a window of a byte lets through is a byte; then it gets wide.
			for n := 0; n < 20; {
				f, err := h.fr.ReadFrame()
				if err != nil {
					h.t.Error(err)
					return
				}
				if d, ok := f.(*xhttp2.DataFrame); ok {
					n += len(d.Data())
					if len(d.Data()) != 1 {
						h.t.Errorf("%d bytes in a window of one", len(d.Data()))
					}
					_ = h.fr.WriteWindowUpdate(1, 1)
				}
			}
			_ = h.fr.WriteWindowUpdate(0, 1<<20)
			_ = h.fr.WriteWindowUpdate(1, 1<<20)
		}, " 199980"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			var admin atomic.Int32
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "admin" || r.URL.Path == "/admin" {
					admin.Add(1)
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = w.Write(make([]byte, 200000))
			}))
			h := m.hand(t, m.inAddr, c.settings...)
			_ = h.fr.WriteWindowUpdate(0, 1<<24)
			if c.settings == nil {
				_ = h.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
			}
			c.attack(h)
			if got := h.answer(1); !slices.Contains(strings.Split(c.want, "|"), got) {
				t.Errorf("ended with %q, want %q", got, c.want)
			}
			_ = h.c.Close()
			if admin.Load() > 0 {
				t.Error("the application was asked for something else")
			}
			if resp, body := m.get(m.client(true), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 || len(body) != 200000 {
				t.Errorf("the next client got %d, %d bytes", resp.StatusCode, len(body))
			}
		})
	}
}

// TestHostileServers answers requests in ways that are wrong, late or too much. A
// client must get what was meant for it, or a refusal, and never what a server said
// without being asked.
func TestHostileServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		// says is what the server answers first; it answers 200 "fine" to whatever
		// comes after it, on the same connection or another.
		says string
		// want is what the client gets, with alternatives, and next the next one.
		want, next string
	}{
		{"response to HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", "200", "200:fine"},
		{"response to HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", "200:fine"},
		{"no content with a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 51\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", "204", "200:fine"},
		{"not modified with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 51\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", "304", "200:fine"},
		{"one response too many", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned", "200:ok", "200:fine"},
		{"longer than announced", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", "200:ok", "200:fine"},
		{"both framings", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502", "200:fine"},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "502", "200:fine"},
		{"folded field", "GET", "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\n\r\nok", "502", "200:fine"},
		{"nul in a field", "GET", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", "502", "200:fine"},
		{"switch of protocols that nobody wants", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n", "502", "200:fine"},
		{"too large a head", "GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 500<<10) + "\r\n\r\n", "502", "200:fine"},
		{"too many fields", "GET", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", "502", "200:fine"},
		{"some informational responses", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200:ok", "200:fine"},
		{"nothing but informational responses", "GET", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20000), "502", "200:fine"},
		{"chunk larger than anything", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok", "200(cut)|502", "200:fine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, door := range []string{"inbound", "both"} {
				m := newMesh(t, viaProxy)
				var asked atomic.Int32
				m.serveTCP(func(conn net.Conn) {
					r := bufio.NewReader(conn)
					for {
						if _, err := http.ReadRequest(r); err != nil {
							return
						}
						if asked.Add(1) == 1 {
							_, _ = io.WriteString(conn, c.says)
						} else {
							_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
						}
					}
				})
				addr := m.inAddr
				if door == "both" {
					addr = m.outAddr
				}
				conn := m.dial(addr)
				_, _ = io.WriteString(conn, c.method+" / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
				if got := statuses(conn, c.method); !slices.Contains(strings.Split(c.want, "|"), got) {
					t.Errorf("%s: answered %q, want %q", door, got, c.want)
				}
				conn = m.dial(addr)
				_, _ = io.WriteString(conn, "GET /next HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
				if got := statuses(conn); got != c.next {
					t.Errorf("%s: the next got %q, want %q", door, got, c.next)
				}
			}
		})
	}
}
