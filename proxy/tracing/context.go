package tracing

import (
	"encoding/base64"
	"encoding/hex"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// format is how a request carries its trace context.
type format uint8

const (
	formatNone format = iota
	// formatW3C is traceparent (W3C Trace Context, version 00).
	formatW3C
	// formatGRPC is grpc-trace-bin, base64 of the binary form.
	formatGRPC
	// formatB3 is x-b3-traceid and its companions.
	formatB3
)

// traceContext is what a request says about the trace that it is part of.
type traceContext struct {
	format format
	trace  [16]byte
	// parent is the span that sent the request.
	parent  [8]byte
	flags   byte
	sampled bool
	// short says that a B3 trace id has 8 bytes.
	short bool
}

const (
	headerW3C       = "traceparent"
	headerGRPC      = "grpc-trace-bin"
	headerB3Trace   = "x-b3-traceid"
	headerB3Span    = "x-b3-spanid"
	headerB3Parent  = "x-b3-parentspanid"
	headerB3Sampled = "x-b3-sampled"
)

// extract reads the first context there is, in the order of the proxy chapter,
// section 22.3.
func extract(f *exchange.Fields) (c traceContext, ok bool) {
	if v := f.Get(headerW3C); v != nil {
		if c, ok = parseW3C(v); ok {
			return c, true
		}
	}
	if v := f.Get(headerGRPC); v != nil {
		if c, ok = parseGRPC(v); ok {
			return c, true
		}
	}
	if v := f.Get(headerB3Trace); v != nil {
		return parseB3(f, v)
	}
	return c, false
}

// start is the context of a trace that begins here. It has no parent.
func start(sampled bool) traceContext {
	c := traceContext{format: formatW3C, sampled: sampled}
	for i := 0; i < len(c.trace); i += 8 {
		id := newID()
		copy(c.trace[i:], id[:])
	}
	if sampled {
		c.flags = 1
	}
	return c
}

// parseW3C reads 00-<32 hex>-<16 hex>-<2 hex>.
func parseW3C(v []byte) (c traceContext, ok bool) {
	if len(v) < 55 || v[0] != '0' || v[1] != '0' || v[2] != '-' || v[35] != '-' || v[52] != '-' || len(v) > 55 {
		return c, false
	}
	var flags [1]byte
	if !unhex(c.trace[:], v[3:35]) || !unhex(c.parent[:], v[36:52]) || !unhex(flags[:], v[53:55]) {
		return c, false
	}
	c.format, c.flags, c.sampled = formatW3C, flags[0], flags[0]&1 != 0
	return c, c.valid()
}

// parseGRPC reads version 0 with its three fields in order.
func parseGRPC(v []byte) (c traceContext, ok bool) {
	for len(v) > 0 && v[len(v)-1] == '=' {
		v = v[:len(v)-1]
	}
	var b [64]byte
	if base64.RawStdEncoding.DecodedLen(len(v)) > len(b) {
		return c, false
	}
	n, err := base64.RawStdEncoding.Decode(b[:], v)
	if err != nil || n < 29 || b[0] != 0 || b[1] != 0 || b[18] != 1 || b[27] != 2 {
		return c, false
	}
	copy(c.trace[:], b[2:18])
	copy(c.parent[:], b[19:27])
	c.format, c.flags, c.sampled = formatGRPC, b[28], b[28]&1 != 0
	return c, c.valid()
}

func parseB3(f *exchange.Fields, id []byte) (c traceContext, ok bool) {
	c.format = formatB3
	switch len(id) {
	case 32:
		ok = unhex(c.trace[:], id)
	case 16:
		c.short = true
		ok = unhex(c.trace[8:], id)
	}
	ok = ok && unhex(c.parent[:], f.Get(headerB3Span))
	c.sampled = string(f.Get(headerB3Sampled)) == "1"
	return c, ok && c.valid()
}

func (c *traceContext) valid() bool { return c.trace != [16]byte{} && c.parent != [8]byte{} }

func unhex(dst, src []byte) bool {
	if len(src) != 2*len(dst) {
		return false
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

// inject makes span the request's parent, in the format that it came in.
func (c *traceContext) inject(f *exchange.Fields, span [8]byte) {
	switch c.format {
	case formatW3C:
		b := make([]byte, 0, 55)
		b = append(b, "00-"...)
		b = append(hex.AppendEncode(b, c.trace[:]), '-')
		b = append(hex.AppendEncode(b, span[:]), '-')
		b = hex.AppendEncode(b, []byte{c.flags})
		f.Set(headerW3C, string(b))
	case formatGRPC:
		b := make([]byte, 0, 29)
		b = append(append(b, 0, 0), c.trace[:]...)
		b = append(append(b, 1), span[:]...)
		b = append(b, 2, c.flags)
		f.Set(headerGRPC, base64.StdEncoding.EncodeToString(b))
	case formatB3:
		f.Set(headerB3Parent, hex.EncodeToString(c.parent[:]))
		f.Set(headerB3Span, hex.EncodeToString(span[:]))
	}
}
