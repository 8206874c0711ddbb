package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// fin is the step of a side that closes its sending half.
const fin = "FIN"

// steps goes through the steps of one side of a connection: "> TEXT" is said, "< TEXT"
// waited for, fin closes the sending half. Then it hears the other side to its end.
// It tells what was heard, without header fields, and "reset" behind it if the end
// was none in order.
func steps(c net.Conn, list []string) string {
	var heard []byte
	one := make([]byte, 1)
	ended := func(err error) string {
		s := fields.ReplaceAllString(string(heard), "\n")
		if err != io.EOF {
			s += "(reset)"
		}
		return s
	}
	for _, s := range list {
		switch {
		case s == fin:
			_ = c.(*net.TCPConn).CloseWrite()
		case strings.HasPrefix(s, "> "):
			_, _ = io.WriteString(c, s[2:])
		default:
			for !strings.HasSuffix(string(heard), s[2:]) {
				if _, err := c.Read(one); err != nil {
					return ended(err)
				}
				heard = append(heard, one[0])
			}
		}
	}
	rest, err := io.ReadAll(c)
	heard = append(heard, rest...)
	if err == nil {
		err = io.EOF
	}
	return ended(err)
}

// fields are those of a head, with the line end before them.
var fields = regexp.MustCompile(`(\r\n[A-Za-z0-9-]+: [^\r]*)*\r\n`)

// TestHalfClosed: one side of a connection says that it has no more to say, at each
// stage of it. What the other side observes is the same through one proxy and through
// two, and nothing waits for what cannot come.
func TestHalfClosed(t *testing.T) {
	const post = "> POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n"
	const get = "> GET / HTTP/1.1\r\nHost: web\r\n\r\n"
	const last = "> GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
	const asked = "< \r\n\r\n"
	for _, c := range []struct {
		name           string
		client, server []string
		// seen is what the client heard, with alternatives; app the application, "-" if
		// it must not have been asked at all.
		seen, app string
	}{
		// The client.
		{"client, before the first byte", []string{fin}, nil, "", "-"},
		// These are bytes like others, and passed on.
		{"client, in the request line", []string{"> GET / HT", fin}, nil, "", "GET / HT"},
		{"client, in the head", []string{"> GET / HTTP/1.1\r\nHo", fin}, nil, "", "-"},
		{"client, before the body", []string{post, fin}, nil, "|HTTP/1.1 502 Bad Gateway\n\n", "POST / HTTP/1.1\n\n|-"},
		{"client, in the body", []string{post + "12345", fin}, nil, "", "POST / HTTP/1.1\n\n12345|POST / HTTP/1.1\n\n|-"},
		{"client, before the response", []string{get, fin}, nil, "", "GET / HTTP/1.1\n\n"},
		{"client, in the response", []string{get, "< 12345", fin}, []string{asked, "> HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"},
			"HTTP/1.1 200 OK\n\n12345", "GET / HTTP/1.1\n\n"},
		// The server. The proxy that the client speaks to may learn of the response's
		// beginning and its end in the middle at once.
		{"server, before the request", []string{last}, []string{fin}, "HTTP/1.1 502 Bad Gateway\n\n", "GET / HTTP/1.1\n\n"},
		{"server, in the request", []string{strings.Replace(post, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1) + "12345"}, []string{"< 12345", fin}, "HTTP/1.1 502 Bad Gateway\n\n", "POST / HTTP/1.1\n\n12345"},
		{"server, before the response", []string{last}, []string{asked, fin}, "HTTP/1.1 502 Bad Gateway\n\n", "GET / HTTP/1.1\n\n"},
		{"server, in the head", []string{last}, []string{asked, "> HTTP/1.1 200 OK\r\nContent-Le", fin}, "HTTP/1.1 502 Bad Gateway\n\n", "GET / HTTP/1.1\n\n"},
		{"server, in the body", []string{last}, []string{asked, "> HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", fin}, "HTTP/1.1 200 OK\n\n12345|HTTP/1.1 502 Bad Gateway\n\n", "GET / HTTP/1.1\n\n"},
		{"server, in a chunk", []string{last}, []string{asked, "> HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123", fin}, "HTTP/1.1 200 OK\n\n3\n123\n|HTTP/1.1 502 Bad Gateway\n\n", "GET / HTTP/1.1\n\n"},
		{"server, as the end of the body", []string{last}, []string{asked, "> HTTP/1.1 200 OK\r\n\r\n12345", fin}, "HTTP/1.1 200 OK\n\n5\n12345\n0\n\n", "GET / HTTP/1.1\n\n"},
		// Bytes. All goes on until the other side is done, too.
		{"bytes, client at once", []string{"> hello", fin, "< bye"}, []string{"< hello", "> good", "> bye", fin}, "goodbye", "hello"},
		{"bytes, client in the middle", []string{"> hello", "< good", "> there", fin}, []string{"< hello", "> good", "< there", "> bye", fin}, "goodbye", "hellothere"},
		{"bytes, server in the middle", []string{"> hello", "< good", "> there", fin}, []string{"< hello", "> good", fin, "< there"}, "good", "hellothere"},
	} {
		for _, door := range []string{"inbound", "both"} {
			t.Run(c.name+"/"+door, func(t *testing.T) {
				m := newMesh(t, viaProxy)
				var mu sync.Mutex
				var heard []string // guarded by mu
				m.serveTCP(func(conn net.Conn) {
					s := steps(conn, c.server)
					mu.Lock()
					defer mu.Unlock()
					if s != "" { // else made to see who speaks first
						heard = append(heard, s)
					}
				})
				addr := m.inAddr
				if door == "both" {
					addr = m.outAddr
				}
				conn := m.dial(addr)
				if got := steps(conn, c.client); !slices.Contains(strings.Split(c.seen, "|"), got) {
					t.Errorf("the client heard %q, want %q", got, c.seen)
				}
				conn.Close()
				ok := soon(func() bool {
					mu.Lock()
					defer mu.Unlock()
					for _, s := range heard {
						if !slices.Contains(strings.Split(c.app, "|"), strings.TrimSuffix(s, "(reset)")) {
							return false
						}
					}
					return len(heard) > 0 || strings.Contains(c.app, "-")
				})
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					t.Errorf("the application heard %q, want %q", heard, c.app)
				}
			})
		}
	}
}

// frames writes frames into a buffer.
func frames(write func(fr *xhttp2.Framer, block func(fields ...string) []byte)) string {
	var out bytes.Buffer
	write(xhttp2.NewFramer(&out, nil), newBlocks().of)
	return out.String()
}

// TestHalfClosedHTTP2: the end of one side is the end of an HTTP/2 connection. A
// client's takes its requests with it, a server's what it has not answered; neither is
// taken for the end of a message.
func TestHalfClosedHTTP2(t *testing.T) {
	settings := frames(func(fr *xhttp2.Framer, _ func(...string) []byte) { _ = fr.WriteSettings() })
	head := func(end bool) string {
		return frames(func(fr *xhttp2.Framer, block func(...string) []byte) {
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: end,
				BlockFragment: block(":method", "POST", ":scheme", "http", ":authority", "web", ":path", "/")})
		})
	}
	data := frames(func(fr *xhttp2.Framer, _ func(...string) []byte) { _ = fr.WriteData(1, false, []byte("12345")) })
	response := frames(func(fr *xhttp2.Framer, block func(...string) []byte) {
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block(":status", "200")})
	})
	start := xhttp2.ClientPreface + settings
	for _, c := range []struct{ name, says, app string }{
		{"in the preface", xhttp2.ClientPreface[:20], "-"},
		{"before the settings", xhttp2.ClientPreface, "-"},
		{"in the settings", start[:len(start)-5], "-"},
		{"before a request", start, "-"},
		{"in a head", start + head(false)[:12], "-"},
		{"before the body", start + head(false), "cut|-"},
		{"in a frame of the body", start + head(false) + data[:11], "cut|-"},
		{"in the body", start + head(false) + data, "cut|-"},
		{"before the response", start + head(true), "cancelled|-"},
	} {
		for _, door := range []string{"inbound", "both"} {
			t.Run("client, "+c.name+"/"+door, func(t *testing.T) {
				m := newMesh(t, viaProxy)
				asked := make(chan string, 10)
				m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == "GET" {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						asked <- "cut"
						return
					}
					<-r.Context().Done()
					asked <- "cancelled"
				}))
				addr := m.inAddr
				if door == "both" {
					addr = m.outAddr
				}
				conn := m.dial(addr)
				_, _ = io.WriteString(conn, c.says)
				_ = conn.(*net.TCPConn).CloseWrite()
				_, err := io.ReadAll(conn)
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Error("the connection did not end")
				}
				conn.Close()
				if resp, _ := m.get(clientTo(t, addr, true), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
					t.Errorf("the next got %d", resp.StatusCode)
				}
				select {
				case got := <-asked:
					if !strings.Contains(c.app, got) {
						t.Errorf("the application saw %s, want %s", got, c.app)
					}
				default: // not begun, or not seen yet
				}
			})
		}
	}
	for _, c := range []struct{ name, says, want string }{
		{"before the settings", "", "502"},
		{"before the response", settings, "502"},
		{"in the head", settings + response[:9], "502"},
		{"before the body", settings + response, "200 cut"},
		{"in a frame of the body", settings + response + data[:11], "200 cut"},
		{"in the body", settings + response + data, "200 cut"},
	} {
		for _, door := range []string{"inbound", "both"} {
			t.Run("server, "+c.name+"/"+door, func(t *testing.T) {
				m := newMesh(t, viaProxy)
				m.serveTCP(func(conn net.Conn) {
					// As much as the request's head is there.
					fr := xhttp2.NewFramer(io.Discard, conn)
					if _, err := io.ReadFull(conn, make([]byte, len(xhttp2.ClientPreface))); err != nil {
						return
					}
					for {
						f, err := fr.ReadFrame()
						if err != nil {
							return
						}
						if f.Header().Type == xhttp2.FrameHeaders {
							break
						}
					}
					_, _ = io.WriteString(conn, c.says)
					_ = conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				})
				addr := m.inAddr
				if door == "both" {
					addr = m.outAddr
				}
				h := m.hand(t, addr)
				h.headers(1, true, ":method", "GET", ":scheme", "http", ":authority", "web", ":path", "/")
				got := h.answer(1)
				for got == "GOAWAY NO_ERROR" { // with a refusal that closes
					got = h.answer(1)
				}
				if c.want == "502" && !strings.HasPrefix(got, "502") {
					t.Errorf("answered %q, want a 502", got)
				}
				// The reset may come before the head was passed on.
				if c.want != "502" && got != "200 INTERNAL_ERROR" && got != "INTERNAL_ERROR" && got != "502 0" {
					t.Errorf("answered %q, want it cut", got)
				}
			})
		}
	}
}
