package h1

import (
	"net"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// writeBuffer gathers a head and small frames; longer data is written from
// where it is.
const writeBuffer = 4 << 10

// writer is the writing half of a connection. The first error stays; what is
// written after it is dropped.
type writer struct {
	conn net.Conn
	b    *buf.Buffer // nil while nothing is gathered
	n    int
	err  error
	// tmp is where numbers are formatted; on the stack it would escape.
	tmp [24]byte
	// any says that at least one byte went out since it was last cleared.
	any bool
}

// together is how much data is worth to be written from where it is, with what
// was gathered before it: less is copied.
const together = 2 << 10

func (w *writer) bytes(p []byte) {
	for len(p) > 0 && w.err == nil {
		if w.b == nil {
			w.b = buf.Get(writeBuffer)
		}
		if w.n == 0 && len(p) >= len(w.b.B) {
			w.raw(p)
			return
		}
		if len(p) >= together && w.n+len(p) > len(w.b.B) && w.both(p) {
			return
		}
		c := copy(w.b.B[w.n:], p)
		w.n += c
		p = p[c:]
		if w.n == len(w.b.B) && len(p) > 0 {
			w.raw(w.b.B[:w.n])
			w.n = 0
		}
	}
}

func (w *writer) str(s string) {
	if w.b != nil && len(w.b.B)-w.n >= len(s) {
		w.n += copy(w.b.B[w.n:], s)
		return
	}
	w.bytes([]byte(s))
}

// both writes what was gathered and p with one call, if conn is a plain socket.
func (w *writer) both(p []byte) bool {
	n, ok, err := netx.WriteBoth(w.conn, w.b.B[:w.n], p)
	if !ok {
		return false
	}
	w.n = 0
	w.any = w.any || n > 0
	if err != nil {
		w.err = err
	}
	return true
}

func (w *writer) raw(p []byte) {
	n, err := w.conn.Write(p)
	if n > 0 {
		w.any = true
	}
	if err != nil {
		w.err = err
	}
}

// flush writes out what was gathered and gives the buffer back.
func (w *writer) flush() error {
	if w.b != nil {
		if w.n > 0 && w.err == nil {
			w.raw(w.b.B[:w.n])
		}
		w.b.Free()
		w.b, w.n = nil, 0
	}
	return w.err
}

func (w *writer) field(name, value []byte) {
	need := len(name) + len(value) + 4
	if w.b == nil || len(w.b.B)-w.n < need {
		w.bytes(name)
		w.str(": ")
		w.bytes(value)
		w.str("\r\n")
		return
	}
	p := w.b.B[w.n:]
	i := copy(p, name)
	p[i], p[i+1] = ':', ' '
	i += 2
	i += copy(p[i:], value)
	p[i], p[i+1] = '\r', '\n'
	w.n += i + 2
}

func (w *writer) length(n int64) {
	w.str("content-length: ")
	w.bytes(strconv.AppendInt(w.tmp[:0], n, 10))
	w.str("\r\n")
}

// chunk writes data as one chunk; empty data is left out, since an empty chunk
// would end the body.
func (w *writer) chunk(data []byte) {
	if len(data) == 0 {
		return
	}
	t := strconv.AppendUint(w.tmp[:0], uint64(len(data)), 16)
	w.bytes(append(t, '\r', '\n'))
	w.bytes(data)
	w.str("\r\n")
}

// lastChunk ends a chunked body.
func (w *writer) lastChunk(trailers *exchange.Fields) {
	w.str("0\r\n")
	if trailers != nil {
		for i := range trailers.List {
			f := &trailers.List[i]
			if notInTrailers(f.Name) {
				continue // from HTTP/2, where it does no harm
			}
			w.field(f.Name, f.Value)
		}
	}
	w.str("\r\n")
}

// statusLines are the status lines of HTTP/1.1 by status code.
var statusLines [600]string

func init() {
	for code, text := range map[int]string{
		100: "Continue", 101: "Switching Protocols",
		200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information",
		204: "No Content", 205: "Reset Content", 206: "Partial Content", 207: "Multi-Status",
		208: "Already Reported", 226: "IM Used",
		300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other",
		304: "Not Modified", 305: "Use Proxy", 307: "Temporary Redirect", 308: "Permanent Redirect",
		400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
		404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
		407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
		411: "Length Required", 412: "Precondition Failed", 413: "Payload Too Large",
		414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
		417: "Expectation Failed", 418: "I'm a teapot", 421: "Misdirected Request",
		422: "Unprocessable Entity", 423: "Locked", 424: "Failed Dependency", 425: "Too Early",
		426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests",
		431: "Request Header Fields Too Large", 451: "Unavailable For Legal Reasons",
		500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
		503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
		506: "Variant Also Negotiates", 507: "Insufficient Storage", 508: "Loop Detected",
		510: "Not Extended", 511: "Network Authentication Required",
	} {
		statusLines[code] = "HTTP/1.1 " + strconv.Itoa(code) + " " + text + "\r\n"
	}
}

func (w *writer) statusLine(status int, v exchange.Version) {
	if w.b == nil {
		w.b = buf.Get(writeBuffer)
	}
	if status < len(statusLines) && status >= 0 && statusLines[status] != "" {
		l := statusLines[status]
		if v == exchange.HTTP10 {
			w.str("HTTP/1.0")
			l = l[8:]
		}
		w.str(l)
		return
	}
	if v == exchange.HTTP10 {
		w.str("HTTP/1.0 ")
	} else {
		w.str("HTTP/1.1 ")
	}
	w.bytes(strconv.AppendInt(w.tmp[:0], int64(status), 10))
	w.str(" \r\n")
}

func (w *writer) date() {
	w.str("date: ")
	w.str(exchange.Date())
	w.str("\r\n")
}
