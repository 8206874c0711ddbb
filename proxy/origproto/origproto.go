// Package origproto carries HTTP/1 exchanges over HTTP/2 between two proxies
// (proxy chapter, section 7.6): the sending one marks the request with what it
// was, the receiving one makes it so again, and marks the response likewise.
//
//	outbound: Upgrade(head) ─► HTTP/2 ─► inbound: Restore(head) ─► application
//	outbound: Downgrade(head) ◄─ HTTP/2 ◄─ inbound: Mark(head) ◄──┘
//
// The functions change heads in place and keep nothing.
package origproto

import (
	"bytes"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

const header = "l5d-orig-proto"

// The values of the header.
const (
	http11   = "HTTP/1.1"
	http10   = "HTTP/1.0"
	absolute = "; absolute-form"
)

// Form is what a carried request was.
type Form uint8

// The forms. None is a request that was not carried.
const (
	None Form = iota
	HTTP11
	HTTP10
)

// Upgrade makes an HTTP/1 request, which must not ask for an upgrade itself,
// one that can be carried.
func Upgrade(h *exchange.RequestHead) {
	value := http11
	if h.Version == exchange.HTTP10 {
		value = http10
	}
	if h.AbsoluteForm {
		value += absolute
	}
	exchange.StripConnection(&h.Fields)
	h.Del("transfer-encoding")
	h.Set(header, value)
	h.Version = exchange.HTTP2
}

// Carried reports whether Restore will make a request HTTP/1 again. Such a one may
// have a Host of its own, as in HTTP/1.
func Carried(h *exchange.RequestHead) bool { return h.Version == exchange.HTTP2 && h.Has(header) }

// Restore makes a carried request HTTP/1 again and says what it was.
func Restore(h *exchange.RequestHead) Form {
	if h.Version != exchange.HTTP2 {
		return None
	}
	v := h.Get(header)
	if v == nil {
		return None
	}
	form := HTTP11
	h.Version = exchange.HTTP11
	if bytes.HasPrefix(v, []byte(http10)) {
		form = HTTP10
		h.Version = exchange.HTTP10
	}
	h.AbsoluteForm = bytes.HasSuffix(v, []byte("absolute-form"))
	h.Del(header)
	h.Del("transfer-encoding")
	if host := h.Get("host"); !h.AbsoluteForm && !bytes.Equal(host, h.Authority) && uri.Valid(host) && string(h.Method) != "CONNECT" {
		// In this form the application sees the Host alone. A client that says
		// something else for the authority must not have policies look at that.
		h.Authority = host
	}
	return form
}

// Mark prepares the response to a carried request.
func Mark(h *exchange.ResponseHead) {
	value := http11
	if h.Version == exchange.HTTP10 {
		value = http10
	}
	exchange.StripConnection(&h.Fields)
	h.Del("transfer-encoding")
	h.Set(header, value)
}

// Downgrade makes the response to an upgraded request HTTP/1 again.
func Downgrade(h *exchange.ResponseHead) {
	h.Version = exchange.HTTP11
	if string(h.Get(header)) == http10 {
		h.Version = exchange.HTTP10
	}
	h.Del(header)
}
