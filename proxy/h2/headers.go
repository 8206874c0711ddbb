package h2

import (
	"bytes"
	"io"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2/hpack"
)

// What a header field is, found once when it is decoded; see hpack.Decoder.
const (
	tagRegular uint16 = iota
	tagInvalid
	tagMethod
	tagScheme
	tagAuthority
	tagPath
	tagStatus
	tagContentLength
	tagHost
	tagForbidden // belongs to an HTTP/1 connection
)

// nameOK marks the bytes of lower-case tokens, valueOK those of values.
var nameOK, valueOK [256]bool

func init() {
	for c := range 256 {
		valueOK[c] = c >= 0x20 && c != 0x7f || c == '\t'
		nameOK[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z'
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		nameOK[c] = true
	}
}

func classify(name, value []byte) uint16 {
	for _, c := range value {
		if !valueOK[c] {
			return tagInvalid
		}
	}
	if len(name) == 0 {
		return tagInvalid
	}
	if name[0] == ':' {
		return pseudo(name, value)
	}
	for _, c := range name {
		if !nameOK[c] {
			return tagInvalid
		}
	}
	switch string(name) {
	case "content-length":
		return tagContentLength
	case "host":
		return tagHost
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return tagForbidden
	case "te":
		if string(value) != "trailers" {
			return tagForbidden
		}
	}
	return tagRegular
}

// pseudo classifies pseudo-headers. Theirs are the words of the request line if
// the request goes on over HTTP/1: a blank in one of them would make it another
// line than the one that routes and policies saw.
func pseudo(name, value []byte) uint16 {
	tag := tagInvalid
	ok := func(byte) bool { return true }
	switch string(name) {
	case ":method":
		tag, ok = tagMethod, func(c byte) bool { return nameOK[c] || 'A' <= c && c <= 'Z' }
	case ":scheme":
		tag = tagScheme
		ok = func(c byte) bool {
			return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'
		}
	case ":authority":
		tag = tagAuthority
		ok = func(c byte) bool { return c > ' ' && c < 0x7f && bytes.IndexByte(notInAuthority, c) < 0 }
	case ":path":
		tag, ok = tagPath, func(c byte) bool { return c > ' ' && c != 0x7f }
	case ":status":
		tag = tagStatus
	}
	for _, c := range value {
		if !ok(c) {
			return tagInvalid
		}
	}
	return tag
}

var notInAuthority = []byte("/?#\"<>\\^`{|}*")

// list is a header block being put into a head.
type list struct {
	fields    *exchange.Fields
	malformed bool
	tooLarge  bool
	regular   bool // a regular field was seen: no pseudo-header may follow
	host      bool // a host field was seen: there is one at most, as in HTTP/1
	trailers  bool
	size      uint32
	length    int64 // content-length, -1 if there is none
	pseudo    [tagStatus + 1][]byte
}

// decode reads a complete block. The error is one of the connection; whatever
// is wrong with the message stands in l, and the block was read to its end for
// the sake of the tables.
func (c *conn) decode(block []byte, l *list) error {
	l.length = -1
	d := &c.dec
	d.Start(block)
	for {
		f, err := d.Next()
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return connError(codeCompression, err.Error())
		}
		l.size += uint32(len(f.Name)+len(f.Value)) + 32
		if l.size > c.o.MaxHeaderListSize {
			l.tooLarge = true
		}
		if l.malformed || l.tooLarge {
			continue
		}
		switch f.Tag {
		case tagRegular:
			l.regular = true
		case tagInvalid, tagForbidden:
			l.malformed = true
			continue
		case tagHost:
			l.regular = true
			if l.host && c.server {
				l.malformed = true
				continue
			}
			l.host = true
		case tagContentLength:
			l.regular = true
			n := parseLength(f.Value)
			if n < 0 || l.length >= 0 {
				l.malformed = true
			}
			l.length = n
		default:
			if l.regular || l.trailers || l.pseudo[f.Tag] != nil {
				l.malformed = true
				continue
			}
			v := l.fields.KeepBytes(f.Value)
			if v == nil {
				v = []byte{}
			}
			l.pseudo[f.Tag] = v
			continue
		}
		l.fields.AddCopy(f.Name, f.Value)
	}
}

// parseLength returns -1 for what is not a length.
func parseLength(v []byte) int64 {
	if len(v) == 0 || len(v) > 18 {
		return -1
	}
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// request makes l a request head; it reports whether it is one.
func (l *list) request(h *exchange.RequestHead) bool {
	p := &l.pseudo
	h.Version = exchange.HTTP2
	h.Method, h.Scheme, h.Authority, h.Path = p[tagMethod], p[tagScheme], p[tagAuthority], p[tagPath]
	if l.malformed || len(h.Method) == 0 || p[tagStatus] != nil {
		return false
	}
	if string(h.Method) == "CONNECT" {
		return h.Path == nil && h.Scheme == nil && len(h.Authority) > 0
	}
	if len(h.Scheme) == 0 || len(h.Path) == 0 {
		return false
	}
	if i := bytes.IndexByte(h.Path, '#'); i > 0 {
		// Dropped as in HTTP/1, where package h1 says why.
		h.Path = h.Path[:i:i]
	}
	return h.Path[0] == '/' || string(h.Path) == "*"
}

// sameHost reports whether the host field of a request, which has one, names what
// its authority does (RFC 9113, section 8.3.1): policies go by the authority,
// and an application may go by either. They are compared as RFC 3986, sections
// 6.2.2.1 and 6.2.3, says: the case of letters does not count, nor a port that is
// the scheme's.
func sameHost(h *exchange.RequestHead) bool {
	if len(h.Authority) == 0 {
		return true // the host is all that there is
	}
	host := h.Get("host")
	return bytes.Equal(host, h.Authority) || exchange.SameFold(withoutPort(host, h.Scheme), withoutPort(h.Authority, h.Scheme))
}

// withoutPort is an authority without its port if that is the scheme's, or empty.
func withoutPort(a, scheme []byte) []byte {
	port := ":"
	switch {
	case bytes.HasSuffix(a, []byte(port)):
	case exchange.EqualFold(scheme, "http"):
		port = ":80"
	case exchange.EqualFold(scheme, "https"):
		port = ":443"
	}
	return bytes.TrimSuffix(a, []byte(port))
}

// status returns the status of a response, 0 if it is none.
func (l *list) status() int {
	p := &l.pseudo
	v := p[tagStatus]
	if l.malformed || len(v) != 3 || p[tagMethod] != nil || p[tagScheme] != nil || p[tagAuthority] != nil || p[tagPath] != nil {
		return 0
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n < 100 {
		return 0
	}
	return n
}

// Pseudo-header names to encode.
var (
	nameMethod    = []byte(":method")
	nameScheme    = []byte(":scheme")
	nameAuthority = []byte(":authority")
	namePath      = []byte(":path")
	nameStatus    = []byte(":status")
	nameLength    = []byte("content-length")
	nameDate      = []byte("date")
)

// blockBound is an upper bound for the encoded size of the fields.
func blockBound(f *exchange.Fields) int {
	n := 64
	for i := range f.List {
		n += len(f.List[i].Name) + len(f.List[i].Value) + 16
	}
	return n
}

// appendFields encodes fields, leaving out those that belong to an HTTP/1
// connection: a peer would call the message malformed.
func appendFields(e *hpack.Encoder, dst []byte, f *exchange.Fields) []byte {
	for i := range f.List {
		e1 := &f.List[i]
		if len(e1.Name) == 0 || e1.Name[0] == ':' {
			continue
		}
		switch len(e1.Name) {
		case 2:
			if e1.Is("te") && string(e1.Value) != "trailers" {
				if !exchange.HasToken(e1.Value, "trailers") {
					continue
				}
				dst = e.Append(dst, e1.Name, []byte("trailers"))
				continue
			}
		case 7:
			if e1.Is("upgrade") {
				continue
			}
		case 10:
			if e1.Is("connection") || e1.Is("keep-alive") {
				continue
			}
		case 16:
			if e1.Is("proxy-connection") {
				continue
			}
		case 17:
			if e1.Is("transfer-encoding") {
				continue
			}
		}
		dst = e.Append(dst, e1.Name, e1.Value)
	}
	return dst
}

func requestBound(h *exchange.RequestHead) int {
	return blockBound(&h.Fields) + len(h.Method) + len(h.Scheme) + len(h.Authority) + len(h.Path) + 64
}

func appendRequest(e *hpack.Encoder, dst []byte, h *exchange.RequestHead) []byte {
	dst = e.Begin(dst)
	connect := false
	switch string(h.Method) {
	case "GET":
		dst = hpack.AppendIndexed(dst, 2)
	case "POST":
		dst = hpack.AppendIndexed(dst, 3)
	default:
		connect = string(h.Method) == "CONNECT"
		dst = e.Append(dst, nameMethod, h.Method)
	}
	if !connect {
		switch string(h.Scheme) {
		case "", "http":
			dst = hpack.AppendIndexed(dst, 6)
		case "https":
			dst = hpack.AppendIndexed(dst, 7)
		default:
			dst = e.Append(dst, nameScheme, h.Scheme)
		}
	}
	if len(h.Authority) > 0 {
		dst = e.Append(dst, nameAuthority, h.Authority)
	}
	if !connect {
		switch len(h.Path) {
		case 0:
			dst = hpack.AppendIndexed(dst, 4)
		case 1:
			if h.Path[0] == '/' {
				dst = hpack.AppendIndexed(dst, 4)
				break
			}
			fallthrough
		default:
			dst = e.Append(dst, namePath, h.Path)
		}
	}
	return appendFields(e, dst, &h.Fields)
}

// appendResponse encodes a response head. length, if not negative, is added as
// content-length unless the head has one; date is, unless it is empty.
func appendResponse(e *hpack.Encoder, dst []byte, h *exchange.ResponseHead, length int64, date string) []byte {
	dst = e.Begin(dst)
	switch h.Status {
	case 200:
		dst = hpack.AppendIndexed(dst, 8)
	case 204:
		dst = hpack.AppendIndexed(dst, 9)
	case 206:
		dst = hpack.AppendIndexed(dst, 10)
	case 304:
		dst = hpack.AppendIndexed(dst, 11)
	case 400:
		dst = hpack.AppendIndexed(dst, 12)
	case 404:
		dst = hpack.AppendIndexed(dst, 13)
	case 500:
		dst = hpack.AppendIndexed(dst, 14)
	default:
		var tmp [8]byte
		dst = e.Append(dst, nameStatus, strconv.AppendInt(tmp[:0], int64(h.Status), 10))
	}
	dst = appendFields(e, dst, &h.Fields)
	if length >= 0 && !h.Has("content-length") {
		var tmp [20]byte
		dst = e.Append(dst, nameLength, strconv.AppendInt(tmp[:0], length, 10))
	}
	if date != "" {
		var tmp [40]byte
		dst = e.Append(dst, nameDate, append(tmp[:0], date...))
	}
	return dst
}
