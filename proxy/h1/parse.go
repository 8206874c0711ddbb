package h1

import (
	"bytes"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Limits of a message head (proxy chapter, section 7.2).
const (
	MaxHead   = 8<<10 + 400<<10
	MaxFields = 100
)

// Error is a message that breaks the protocol. Status is what a server answers
// to it.
type Error struct {
	Status int
	Text   string
}

// Error gives the text.
func (e *Error) Error() string { return "http/1: " + e.Text }

func bad(text string) *Error { return &Error{400, text} }

// What the parser objects to. They are values so that tests and callers can
// compare, and so that hostile input allocates nothing.
var (
	errRequestLine    = bad("malformed request line")
	errStatusLine     = bad("malformed status line")
	errVersion        = bad("unsupported version")
	errTarget         = bad("malformed request target")
	errBareLF         = bad("line ends without CR")
	errBareCR         = bad("CR within a line")
	errFold           = bad("folded header field")
	errFieldName      = bad("invalid header field name")
	errFieldValue     = bad("invalid header field value")
	errLength         = bad("invalid content-length")
	errLengths        = bad("different content-lengths")
	errBothFramings   = bad("both content-length and transfer-encoding")
	errCoding         = bad("body is not chunked last")
	errCoding10       = bad("transfer-encoding in HTTP/1.0")
	errHosts          = bad("more than one host")
	errConnect10      = bad("connect with HTTP/1.0")
	errChunk          = bad("malformed chunk")
	errTrailers       = bad("malformed trailers")
	errTooManyFields  = &Error{431, "too many header fields"}
	errHeadTooLarge   = &Error{431, "head too large"}
	errHeadNoMemory   = &Error{503, "no memory for a large head"}
	errMethodTooLong  = bad("method too long")
	errUpgradeUnasked = bad("upgrade that was not asked for")
	errInformational  = bad("too many informational responses")
)

// Classes of bytes.
const (
	isToken  = 1 << iota // may stand in a method or field name
	isValue              // may stand in a field value
	isTarget             // may stand in a request target
)

var class [256]uint8

func init() {
	for c := 0; c < 256; c++ {
		if c >= 0x20 && c != 0x7f || c == '\t' {
			class[c] |= isValue
		}
		if c > 0x20 && c != 0x7f {
			class[c] |= isTarget
		}
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			class[c] |= isToken
		case c < 0x80 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0:
			class[c] |= isToken
		}
	}
}

// all reports whether every byte of b is in the class.
func all(b []byte, mask uint8) bool {
	for _, c := range b {
		if class[c]&mask == 0 {
			return false
		}
	}
	return true
}

// framing is what the header fields say about body and connection.
type framing struct {
	length    int64 // of Content-Length; -1 if there is none
	chunked   bool
	coded     bool // there is a Transfer-Encoding
	close     bool // Connection: close
	keepAlive bool // Connection: keep-alive
	upgrade   bool // there is an Upgrade
	h2c       bool // which names h2c, alone or among others
	expect    bool // Expect: 100-continue
	hosts     int
}

// parser parses a head as it arrives. Its slices point into the buffer that it
// is given; when that moves the parser has to be reset and begin again.
type parser struct {
	fields *exchange.Fields
	req    *exchange.RequestHead  // one of both is set
	res    *exchange.ResponseHead //
	pos    int                    // where the current line begins
	scan   int                    // no LF lies between pos and scan
	lines  int                    // parsed so far
	fr     framing
}

func (p *parser) request(h *exchange.RequestHead) {
	h.Reset()
	*p = parser{fields: &h.Fields, req: h, fr: framing{length: -1}}
}

func (p *parser) response(h *exchange.ResponseHead) {
	h.Reset()
	*p = parser{fields: &h.Fields, res: h, fr: framing{length: -1}}
}

// again starts over, after the buffer moved.
func (p *parser) again() {
	if p.req != nil {
		p.request(p.req)
	} else {
		p.response(p.res)
	}
}

// parse goes on with the head that begins at b[0]. It returns its size in bytes
// when it is complete and 0 if more has to be read.
func (p *parser) parse(b []byte) (int, error) {
	for {
		i := bytes.IndexByte(b[p.scan:], '\n')
		if i < 0 {
			p.scan = len(b)
			return 0, p.partial(b)
		}
		end := p.scan + i
		line := b[p.pos:end]
		p.pos, p.scan = end+1, end+1
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		} else if p.req != nil {
			return 0, errBareLF
		}
		if len(line) == 0 {
			if p.lines == 0 {
				// An empty line before the first is tolerated
				// (RFC 9112, section 2.2).
				continue
			}
			return p.pos, p.finish()
		}
		var err error
		switch {
		case p.lines > 0:
			err = p.field(line)
		case p.req != nil:
			err = p.requestLine(line)
		default:
			err = p.statusLine(line)
		}
		if err != nil {
			return 0, err
		}
		p.lines++
	}
}

// partial looks at an unfinished first line, so that what is not HTTP at all is
// refused at once instead of being waited for.
func (p *parser) partial(b []byte) error {
	if p.lines > 0 || p.req == nil {
		return nil
	}
	const longest = 64
	for i, c := range b[p.pos:] {
		switch {
		case c == ' ' && i > 0:
			return nil
		case c == '\r' && i == 0:
			return nil
		case class[c]&isToken == 0:
			return errRequestLine
		case i == longest:
			return errMethodTooLong
		}
	}
	return nil
}

func parseVersion(b []byte) (exchange.Version, bool) {
	if len(b) != 8 || string(b[:7]) != "HTTP/1." {
		return 0, false
	}
	switch b[7] {
	case '1':
		return exchange.HTTP11, true
	case '0':
		return exchange.HTTP10, true
	}
	return 0, false
}

func (p *parser) requestLine(line []byte) error {
	h := p.req
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || i == j {
		return errRequestLine
	}
	method, target, version := line[:i:i], line[i+1:j:j], line[j+1:]
	if !all(method, isToken) {
		return errRequestLine
	}
	var ok bool
	if h.Version, ok = parseVersion(version); !ok {
		return errVersion
	}
	if len(target) == 0 || !all(target, isTarget) {
		return errTarget
	}
	if i := bytes.IndexByte(target, '#'); i > 0 {
		// A fragment has no place here. If it were passed on, routes and
		// policies would see another path than the application.
		target = target[:i:i]
	}
	h.Method = method
	if string(method) == "CONNECT" {
		if h.Version == exchange.HTTP10 {
			return errConnect10
		}
		if target[0] == '*' || bytes.IndexByte(target, '/') >= 0 || !authority(target) {
			return errTarget
		}
		h.Authority = target
		return nil
	}
	if target[0] == '/' || len(target) == 1 && target[0] == '*' {
		h.Path = target
		return nil
	}
	k := bytes.Index(target, []byte("://"))
	if k <= 0 {
		return errTarget // authority form, which only CONNECT may use
	}
	for m, c := range target[:k] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case m > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return errTarget
		}
	}
	rest := target[k+3:]
	m := bytes.IndexAny(rest, "/?#")
	if m < 0 {
		m = len(rest)
	}
	if !authority(rest[:m]) {
		return errTarget
	}
	h.Scheme, h.Authority, h.AbsoluteForm = target[:k:k], rest[:m:m], true
	switch {
	case m == len(rest):
		h.Path = slash
	case rest[m] == '/':
		h.Path = rest[m:]
	case rest[m] == '?':
		path := h.KeepBytes(rest[m-1:]) // one byte more, for the slash
		path[0] = '/'
		h.Path = path
	default:
		return errTarget
	}
	return nil
}

var slash = []byte("/")

// authority reports whether b can be the authority of a target.
func authority(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		switch c {
		case '/', '?', '#', '"', '<', '>', '\\', '^', '`', '{', '|', '}', ' ', '*':
			return false
		}
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func (p *parser) statusLine(line []byte) error {
	h := p.res
	if len(line) < 12 || line[8] != ' ' {
		return errStatusLine
	}
	var ok bool
	if h.Version, ok = parseVersion(line[:8]); !ok {
		return errVersion
	}
	status := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || len(line) > 12 && line[12] != ' ' || !all(line[12:], isValue) {
		return errStatusLine
	}
	h.Status = status
	return nil
}

func (p *parser) field(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		return errFold
	}
	if len(p.fields.List) >= MaxFields {
		return errTooManyFields
	}
	i := 0
	for i < len(line) && class[line[i]]&isToken != 0 {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return errFieldName
	}
	name, value := line[:i:i], line[i+1:]
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for n := len(value); n > 0 && (value[n-1] == ' ' || value[n-1] == '\t'); n-- {
		value = value[:n-1]
	}
	if !all(value, isValue) {
		if bytes.IndexByte(value, '\r') >= 0 {
			return errBareCR
		}
		return errFieldValue
	}
	value = value[:len(value):len(value)]
	f := exchange.Field{Name: name, Value: value}
	switch len(name) {
	case 4:
		if p.req != nil && f.Is("host") {
			if p.fr.hosts++; p.fr.hosts > 1 {
				return errHosts
			}
		}
	case 6:
		if p.req != nil && f.Is("expect") && fold(value, "100-continue") {
			p.fr.expect = true
		}
	case 7:
		if f.Is("upgrade") {
			p.upgrade(value)
		}
	case 10:
		if f.Is("connection") {
			p.connection(value)
		}
	case 14:
		if f.Is("content-length") {
			n, err := contentLength(value)
			if err != nil {
				return err
			}
			if p.fr.length >= 0 {
				if n != p.fr.length {
					return errLengths
				}
				return nil // said twice: passed on once
			}
			p.fr.length = n
			if len(value) > 0 && bytes.IndexByte(value, ',') >= 0 {
				// "5, 5" is passed on as 5.
				v, _ := exchange.NextToken(value)
				f.Value = v[:len(v):len(v)]
			}
		}
	case 17:
		if f.Is("transfer-encoding") {
			if p.fr.chunked {
				return errCoding // chunked was not last
			}
			first := !p.fr.coded
			p.fr.coded = true
			n := 0
			for rest := value; len(rest) > 0; {
				var tok []byte
				tok, rest = exchange.NextToken(rest)
				if len(tok) == 0 {
					if p.req != nil {
						return errCoding
					}
					continue
				}
				if p.fr.chunked {
					return errCoding
				}
				n++
				p.fr.chunked = fold(tok, "chunked")
			}
			if p.req != nil && (n == 0 || value[len(value)-1] == ',') {
				return errCoding
			}
			if first && n == 1 && p.fr.chunked {
				// However it was spelt: to a server that does not know it by that
				// spelling the body would be the next request.
				f.Value = chunkedValue
			}
		}
	}
	p.fields.List = append(p.fields.List, f)
	return nil
}

var chunkedValue = []byte("chunked")

func (p *parser) connection(value []byte) {
	for len(value) > 0 {
		var tok []byte
		tok, value = exchange.NextToken(value)
		if fold(tok, "close") {
			p.fr.close = true
		} else if fold(tok, "keep-alive") {
			p.fr.keepAlive = true
		}
	}
}

// upgrade notes what an Upgrade asks for. A server that may choose h2c among other
// protocols gives its client a tunnel in which nobody sees the requests: so that is
// no upgrade at all, as if h2c were alone (proxy chapter, section 7.2).
func (p *parser) upgrade(value []byte) {
	p.fr.upgrade = true
	for len(value) > 0 {
		var tok []byte
		tok, value = exchange.NextToken(value)
		if i := bytes.IndexAny(tok, "/; \t"); i >= 0 {
			tok = tok[:i] // without version and whatever else
		}
		if fold(tok, "h2c") {
			p.fr.h2c = true
		}
	}
}

// fold compares b with s, which is lower case, ignoring case.
func fold(b []byte, s string) bool {
	f := exchange.Field{Name: b}
	return f.Is(s)
}

func contentLength(v []byte) (int64, error) {
	first := int64(-1)
	for {
		var tok []byte
		tok, v = exchange.NextToken(v)
		if len(tok) == 0 || len(tok) > 18 {
			return 0, errLength
		}
		n := int64(0)
		for _, c := range tok {
			if c < '0' || c > '9' {
				return 0, errLength
			}
			n = n*10 + int64(c-'0')
		}
		if first >= 0 && n != first {
			return 0, errLengths
		}
		first = n
		if v == nil {
			return first, nil
		}
	}
}

// finish draws the conclusions from a complete head.
func (p *parser) finish() error {
	fr := &p.fr
	if fr.coded && fr.length >= 0 {
		return errBothFramings
	}
	if h := p.req; h != nil {
		switch {
		case fr.coded && h.Version == exchange.HTTP10:
			return errCoding10
		case fr.coded && !fr.chunked:
			return errCoding
		case fr.chunked:
			h.ContentLength = -1
		case fr.length > 0:
			h.ContentLength = fr.length
		}
		if h.Version == exchange.HTTP11 {
			h.Upgrade = fr.upgrade && !fr.h2c || string(h.Method) == "CONNECT"
			h.ExpectContinue = fr.expect && h.ContentLength != 0
		}
		return nil
	}
	if fr.coded && p.res.Version == exchange.HTTP10 {
		return errCoding10
	}
	p.res.ContentLength = fr.length
	return nil
}
