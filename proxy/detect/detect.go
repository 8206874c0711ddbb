// Package detect decides from the first bytes of a connection what is spoken
// on it (proxy chapter, sections 5.2 and 5.3).
//
//	switch hello, sni := detect.ClientHello(peeked); hello {
//	case detect.More:  // read on
//	case detect.TLS:   // compare sni with the local name
//	case detect.NotTLS:
//	}
//
// The functions read nothing and keep nothing, and may be called from any
// goroutine. They never look beyond the bytes they are given.
package detect

import "bytes"

// Hello is what the first bytes are for a TLS server.
type Hello uint8

const (
	// More: so far it can be a ClientHello, but it is not complete.
	More Hello = iota
	// TLS: a whole ClientHello.
	TLS
	// NotTLS: no byte that may follow can make it a ClientHello.
	NotTLS
)

// String names the decision.
func (h Hello) String() string {
	switch h {
	case More:
		return "more"
	case TLS:
		return "tls"
	}
	return "not tls"
}

// MaxHello is how many bytes are read at most to see a whole ClientHello; one
// that needs more is taken for something else.
const MaxHello = 8192

// cursor walks over length-prefixed fields. short means that bytes are missing
// which may still arrive.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short = true
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint(size int) int {
	n := 0
	for _, x := range c.take(size) {
		n = n<<8 | int(x)
	}
	return n
}

// ClientHello decides whether b begins with a TLS ClientHello, and which
// server it names. The name is empty if there is none that is a DNS name.
func ClientHello(b []byte) (Hello, string) {
	// Each fixed byte is tested as soon as it is there, so that a client of
	// another protocol does not wait until a whole header has arrived.
	fixed := [...]func(byte) bool{
		0: func(x byte) bool { return x == 0x16 },
		1: func(x byte) bool { return x == 0x03 },
		2: func(x byte) bool { return x == 0x01 || x == 0x03 },
		5: func(x byte) bool { return x == 0x01 },
		6: func(x byte) bool { return x == 0x00 },
		9: func(x byte) bool { return x == 0x03 }, 10: func(x byte) bool { return x == 0x03 },
	}
	for i, ok := range fixed {
		if i >= len(b) {
			break
		}
		if ok != nil && !ok(b[i]) {
			return NotTLS, ""
		}
	}
	if len(b) < 5 {
		return More, ""
	}
	record := int(b[3])<<8 | int(b[4])
	if record+5 > MaxHello {
		return NotTLS, ""
	}
	if len(b) < 5+record {
		return More, ""
	}
	c := cursor{b: b[5 : 5+record]}
	c.take(1) // handshake type
	if n := c.uint(3); n > len(c.b) {
		// A hello that is spread over several records is not sent by any
		// mesh peer.
		return NotTLS, ""
	}
	c.take(2 + 32) // version, random
	c.take(c.uint(1))
	c.take(c.uint(2))
	c.take(c.uint(1))
	if c.short {
		return NotTLS, ""
	}
	if len(c.b) == 0 {
		return TLS, ""
	}
	ext := cursor{b: c.take(c.uint(2))}
	if c.short {
		return NotTLS, ""
	}
	for len(ext.b) > 0 {
		kind := ext.uint(2)
		data := ext.take(ext.uint(2))
		if ext.short {
			return NotTLS, ""
		}
		if kind == 0 {
			return TLS, serverName(data)
		}
	}
	return TLS, ""
}

// serverName finds the host name in a server_name extension (RFC 6066, section 3).
func serverName(data []byte) string {
	c := cursor{b: data}
	list := cursor{b: c.take(c.uint(2))}
	for len(list.b) > 0 {
		kind := list.uint(1)
		name := list.take(list.uint(2))
		if list.short {
			return ""
		}
		if kind == 0 {
			if !dnsName(name) {
				return ""
			}
			return string(bytes.ToLower(name))
		}
	}
	return ""
}

// dnsName reports whether b is a host name as TLS demands it: labels of
// letters, digits, hyphens and underscores, and not an IPv4 address.
func dnsName(b []byte) bool {
	b = bytes.TrimSuffix(b, []byte{'.'})
	if len(b) == 0 || len(b) > 253 {
		return false
	}
	numeric := true
	for label := range bytes.SplitSeq(b, []byte{'.'}) {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		numeric = true
		for _, x := range label {
			switch {
			case '0' <= x && x <= '9':
			case 'a' <= x && x <= 'z', 'A' <= x && x <= 'Z', x == '-', x == '_':
				numeric = false
			default:
				return false
			}
		}
	}
	return !numeric
}

// Protocol is what the first bytes are for an HTTP server.
type Protocol uint8

const (
	// Undecided: so few bytes that a request of a well-known method can still
	// follow.
	Undecided Protocol = iota
	// HTTP1 is HTTP/1.0 or HTTP/1.1.
	HTTP1
	// HTTP2 is HTTP/2 with prior knowledge.
	HTTP2
	// NotHTTP is any other protocol.
	NotHTTP
)

// String gives the name that metric labels use.
func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "http/1"
	case HTTP2:
		return "http/2"
	case NotHTTP:
		return "not_http"
	}
	return "undecided"
}

// minHTTP is the number of bytes with which a decision is final; it is the
// length of preface.
const minHTTP = 14

const preface = "PRI * HTTP/2.0"

// starts are the beginnings of request lines that are worth waiting for when
// fewer than minHTTP bytes have arrived. A client of another protocol that
// sends a few bytes and then waits for an answer must not be held up.
var starts = []string{
	preface, "GET /", "HEAD /", "POST /", "PUT /", "DELETE /", "PATCH /", "OPTIONS /", "OPTIONS *",
	"CONNECT ", "TRACE /", "GET http", "HEAD http", "POST http", "PUT http", "DELETE http",
}

// HTTP decides which version of HTTP, if any, b is the beginning of. Once b has
// 14 bytes the decision is never Undecided.
func HTTP(b []byte) Protocol {
	if len(b) < minHTTP {
		for _, s := range starts {
			n := min(len(s), len(b))
			if string(b[:n]) == s[:n] {
				return Undecided
			}
		}
		return NotHTTP
	}
	if string(b[:minHTTP]) == preface {
		return HTTP2
	}
	if requestLine(b) {
		return HTTP1
	}
	return NotHTTP
}

// requestLine reports whether b is the first line of an HTTP/1 request, the beginning
// of one, or one followed by anything.
func requestLine(b []byte) bool {
	// Empty lines before a request are skipped (RFC 9112, section 2.2).
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		if b[0] == '\r' {
			if len(b) == 1 {
				return true
			}
			if b[1] != '\n' {
				return false
			}
			b = b[1:]
		}
		b = b[1:]
	}
	i := 0
	for i < len(b) && token(b[i]) {
		i++
	}
	if i == len(b) {
		return true
	}
	if i == 0 || b[i] != ' ' {
		return false
	}
	b = b[i+1:]
	i = 0
	for i < len(b) && b[i] > 0x20 && b[i] != 0x7f {
		i++
	}
	if i == len(b) {
		return true
	}
	if i == 0 || b[i] != ' ' {
		return false
	}
	b = b[i+1:]
	const version = "HTTP/1."
	n := min(len(version), len(b))
	if string(b[:n]) != version[:n] {
		return false
	}
	b = b[n:]
	if len(b) == 0 {
		return true
	}
	if b[0] != '0' && b[0] != '1' {
		return false
	}
	// Whatever is wrong with its fields, this is HTTP: passed on as bytes it would
	// reach an application that may take it for another request than policies would.
	return endOfLine(b[1:])
}

// endOfLine reports whether b begins with CRLF or LF, or what there is of it.
func endOfLine(b []byte) bool {
	if len(b) > 0 && b[0] == '\r' {
		b = b[1:]
	}
	return len(b) == 0 || b[0] == '\n'
}

// token reports whether x may stand in a method or field name (RFC 9110,
// section 5.6.2).
func token(x byte) bool {
	switch {
	case 'a' <= x && x <= 'z', 'A' <= x && x <= 'Z', '0' <= x && x <= '9':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), x) >= 0
}
