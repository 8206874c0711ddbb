// Package uri finds out what a request is for: its authority, made explicit
// where HTTP/1 leaves it to the connection (proxy chapter, section 7.3), and
// the parts of it.
//
// The functions keep nothing; heads belong to the caller.
package uri

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// ErrNoAuthority: a request names no host and nothing else does.
var ErrNoAuthority = errors.New("failed to normalize URI because no authority could be determined")

// Normalize makes sure that an HTTP/1 request has an authority: that of its
// URI, else its Host if it is one, else def, which may be empty. HTTP/2
// requests are left alone. The scheme of an HTTP/1 request is http.
func Normalize(h *exchange.RequestHead, def string) error {
	if h.Version == exchange.HTTP2 {
		return nil
	}
	if len(h.Scheme) == 0 && len(h.Path) > 0 {
		h.Scheme = schemeHTTP
	}
	if len(h.Authority) > 0 {
		return nil
	}
	if host := h.Get("host"); len(host) > 0 && Valid(host) {
		h.Authority = host
		return nil
	}
	if def == "" {
		return ErrNoAuthority
	}
	h.Authority = h.Keep(def)
	return nil
}

var schemeHTTP = []byte("http")

// Valid reports whether b is an authority without user information.
func Valid(b []byte) bool {
	host, port := Split(b)
	if len(host) == 0 {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	if host[0] == '[' {
		return host[len(host)-1] == ']'
	}
	for _, c := range host {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '%':
		case c == '!', c == '$', '&' <= c && c <= ',', c == ';', c == '=':
		default:
			return false
		}
	}
	return true
}

// Split cuts an authority into host and port; brackets stay with the host. The
// port is empty if there is none.
func Split(b []byte) (host, port []byte) {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || bytes.IndexByte(b[i:], ']') >= 0 {
		return b, nil
	}
	return b[:i], b[i+1:]
}

// NamePort is an authority's DNS name and port, def if it has none. ok is
// false if the host is an IP address or not a name.
func NamePort(b []byte, def uint16) (name []byte, port uint16, ok bool) {
	name, p := Split(b)
	port = def
	if len(p) > 0 {
		n, err := strconv.ParseUint(string(p), 10, 16)
		if err != nil || n == 0 {
			return nil, 0, false
		}
		port = uint16(n)
	}
	if !Name(name) {
		return nil, 0, false
	}
	return name, port, true
}

// Name reports whether b is a DNS name and not an IP address.
func Name(b []byte) bool {
	b = bytes.TrimSuffix(b, []byte{'.'})
	if len(b) == 0 || len(b) > 253 {
		return false
	}
	label, numeric := 0, true
	for _, c := range b {
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label, numeric = 0, true
			continue
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			numeric = false
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	// A last label of digits only is that of an IPv4 address.
	return label > 0 && !numeric
}
