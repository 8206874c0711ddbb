package exchange

// Version is an HTTP protocol version.
type Version uint8

// The versions that the proxy speaks.
const (
	HTTP10 Version = iota + 1
	HTTP11
	HTTP2
)

// String gives the version as it stands on a request line, for example "HTTP/1.1".
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2.0"
	}
	return "HTTP/?"
}

// Field is one header or trailer field. Name keeps the spelling it arrived in
// (any case from HTTP/1, lower case from HTTP/2); codecs write the case that
// their protocol demands. Value has no surrounding white space.
type Field struct {
	Name, Value []byte
}

// Is reports whether the field is called name, ignoring case. name must be
// lower case.
func (f *Field) Is(name string) bool { return EqualFold(f.Name, name) }

// Fields is an ordered list of header fields backed by one buffer. The zero
// value is empty and usable. It is not safe for concurrent use.
//
// Pseudo-header fields never appear in it: they are members of the heads.
type Fields struct {
	List []Field
	// buf holds the bytes of fields that were added rather than parsed.
	// Growing it moves nothing: slices handed out keep the array they had.
	buf []byte
}

// Reset empties the list and keeps its storage for reuse. All slices handed
// out before become invalid.
func (f *Fields) Reset() {
	clear(f.List)
	f.List = f.List[:0]
	f.buf = f.buf[:0]
	const keep = 16 << 10
	if cap(f.buf) > keep {
		// One huge head must not make the pooled object huge for good.
		f.buf = nil
	}
}

// Get returns the value of the first field called name (lower case), or nil.
// A present but empty value is a non-nil empty slice.
func (f *Fields) Get(name string) []byte {
	i := f.index(0, name)
	if i < 0 {
		return nil
	}
	if v := f.List[i].Value; v != nil {
		return v
	}
	return []byte{}
}

// Has reports whether a field called name (lower case) is present.
func (f *Fields) Has(name string) bool { return f.index(0, name) >= 0 }

// Add appends a field, copying name and value.
func (f *Fields) Add(name, value string) {
	f.List = append(f.List, Field{f.Keep(name), f.Keep(value)})
}

// AddBytes appends a field without copying: name and value must stay valid as
// long as the list.
func (f *Fields) AddBytes(name, value []byte) {
	f.List = append(f.List, Field{name, value})
}

// AddCopy appends a field, copying name and value.
func (f *Fields) AddCopy(name, value []byte) {
	f.Grow(len(name) + len(value))
	n, m := len(f.buf), len(f.buf)+len(name)
	f.buf = append(append(f.buf, name...), value...)
	f.List = append(f.List, Field{f.buf[n:m:m], f.buf[m:len(f.buf):len(f.buf)]})
}

// Set replaces the first field called name (lower case) and removes the other
// fields of that name; it appends one if there was none.
func (f *Fields) Set(name, value string) {
	i := f.index(0, name)
	if i < 0 {
		f.Add(name, value)
		return
	}
	f.List[i].Value = f.Keep(value)
	f.delFrom(i+1, name)
}

// Del removes all fields called name (lower case) and reports whether there
// were any.
func (f *Fields) Del(name string) bool { return f.delFrom(0, name) }

// index is where the first field called name is, not looking before from; -1 if
// there is none.
func (f *Fields) index(from int, name string) int {
	for i := from; i < len(f.List); i++ {
		if f.List[i].Is(name) {
			return i
		}
	}
	return -1
}

// delFrom is Del for the fields from the given one on. Most are asked for in vain,
// and nothing is moved before the first that has to go.
func (f *Fields) delFrom(from int, name string) bool {
	i := f.index(from, name)
	if i < 0 {
		return false
	}
	out := f.List[:i]
	for _, e := range f.List[i+1:] {
		if !e.Is(name) {
			out = append(out, e)
		}
	}
	clear(f.List[len(out):])
	f.List = out
	return true
}

// Keep copies s into the list's buffer and returns the copy, valid until Reset.
func (f *Fields) Keep(s string) []byte {
	f.Grow(len(s))
	n := len(f.buf)
	f.buf = append(f.buf, s...)
	return f.buf[n:len(f.buf):len(f.buf)]
}

// KeepBytes is Keep for bytes.
func (f *Fields) KeepBytes(b []byte) []byte {
	f.Grow(len(b))
	n := len(f.buf)
	f.buf = append(f.buf, b...)
	return f.buf[n:len(f.buf):len(f.buf)]
}

// Grow makes room for n more bytes to be kept. Each new array is at least
// twice the one before, so that a head that is reused soon has one that holds
// all of it and no longer allocates.
func (f *Fields) Grow(n int) {
	if cap(f.buf)-len(f.buf) < n {
		f.buf = make([]byte, 0, max(256, 2*cap(f.buf), 2*n))
	}
}

// CopyFrom makes f a deep copy of src.
func (f *Fields) CopyFrom(src *Fields) {
	f.Reset()
	n := 0
	for _, e := range src.List {
		n += len(e.Name) + len(e.Value)
	}
	if cap(f.buf) < n {
		f.buf = make([]byte, 0, n+64)
	}
	for _, e := range src.List {
		f.AddCopy(e.Name, e.Value)
	}
}

// EqualFold compares ASCII b with lower-case s, ignoring the case of b.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// RequestHead is a request without its body.
type RequestHead struct {
	Fields
	Version Version
	Method  []byte
	// Scheme is the request's scheme: from the URI of an absolute-form
	// request or from :scheme; empty for origin-form HTTP/1.
	Scheme []byte
	// Authority is the authority of the target: from an absolute- or
	// authority-form target or from :authority. It is empty for origin-form
	// HTTP/1 requests, whose Host stays a field.
	Authority []byte
	// Path is path and query as they stood on the wire, "*" for an asterisk
	// form, empty for CONNECT.
	Path []byte
	// AbsoluteForm says that an HTTP/1 request line carried a whole URI; an
	// HTTP/1 client writes it so again.
	AbsoluteForm bool
	// ContentLength is the body's length in bytes, 0 for none, -1 if it is
	// not known in advance.
	ContentLength int64
	// Upgrade says that the client asks to leave HTTP on this connection: an
	// HTTP/1.1 CONNECT, or an Upgrade field whose value is not h2c
	// (proxy chapter, section 7.2).
	Upgrade bool
	// ExpectContinue says that an HTTP/1 client holds the body back until it
	// sees 100 (Continue). The server codec sends it when the body is first
	// read.
	ExpectContinue bool
}

// Reset empties the head for reuse.
func (h *RequestHead) Reset() {
	f := h.Fields
	f.Reset()
	*h = RequestHead{Fields: f}
}

// CopyFrom makes h a deep copy of src, for whoever must send it twice.
func (h *RequestHead) CopyFrom(src *RequestHead) {
	f := h.Fields
	*h = *src
	h.Fields = f
	h.Fields.CopyFrom(&src.Fields)
	h.Method = h.KeepBytes(src.Method)
	h.Scheme = h.KeepBytes(src.Scheme)
	h.Authority = h.KeepBytes(src.Authority)
	h.Path = h.KeepBytes(src.Path)
}

// ResponseHead is a response without its body.
type ResponseHead struct {
	Fields
	Version Version
	// Status is the three-digit status code. Informational responses other
	// than 101 do not reach this type.
	Status int
	// ContentLength is the body's length in bytes, -1 if not known in
	// advance. For a response that has no body by rule (HEAD, 204, 304) it
	// tells what the Content-Length field said, if there was one, else -1.
	ContentLength int64
}

// Reset empties the head for reuse.
func (h *ResponseHead) Reset() {
	f := h.Fields
	f.Reset()
	*h = ResponseHead{Fields: f}
}
