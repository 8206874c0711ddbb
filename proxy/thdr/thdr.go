// Package thdr is the transport header: what a proxy writes first on a
// connection to another proxy's own port, to say which port or name the
// connection is really for (proxy chapter, section 5.4; proxy API chapter,
// sections 2.12 and 10).
//
//	conn.Write(thdr.Append(nil, thdr.Header{Port: 3306}))
//	...
//	h, n, err := thdr.Parse(received)   // n bytes belong to the header
//
// The message is three fields of protobuf; they are coded by hand, so that the
// data path does not depend on a protobuf library. The functions keep nothing
// and may be called from any goroutine.
package thdr

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ALPN is the protocol name that announces the header in a TLS handshake.
const ALPN = "transport.l5d.io/v1"

// preface precedes the length of the message.
const preface = ALPN + "\r\n\r\n"

// MaxLength is the largest message that is accepted, in bytes.
const MaxLength = 64 << 10

// Session is the protocol spoken after the header.
type Session uint8

// The session protocols. Opaque means that the header has none.
const (
	Opaque Session = iota
	HTTP1
	HTTP2
)

// String is the metric label; empty for Opaque.
func (s Session) String() string {
	switch s {
	case HTTP1:
		return "http/1"
	case HTTP2:
		return "http/2"
	}
	return ""
}

// Header is what the client tells.
type Header struct {
	// Port is the target's port.
	Port uint16
	// Name is the target's DNS name; empty if the target is the workload that
	// the receiving proxy belongs to.
	Name string
	// Session is the protocol that follows.
	Session Session
}

// Reasons why bytes are not a header. Each ends the connection.
var (
	ErrMissing = errors.New("Connection did not include a transport header")
	ErrTooLong = errors.New("Message length exceeds capacity")
	ErrPort    = errors.New("Invalid port value")
	ErrName    = errors.New("invalid DNS name in transport header")
	ErrMessage = errors.New("malformed transport header")
	// ErrShort says that more bytes are needed.
	ErrShort = errors.New("transport header is incomplete")
)

// Append appends the encoded header to b.
func Append(b []byte, h Header) []byte {
	b = append(b, preface...)
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, 1<<3)
	b = binary.AppendUvarint(b, uint64(h.Port))
	if h.Name != "" {
		b = append(b, 2<<3|2)
		b = binary.AppendUvarint(b, uint64(len(h.Name)))
		b = append(b, h.Name...)
	}
	if h.Session != Opaque {
		// A message with one field, itself an empty message.
		b = append(b, 3<<3|2, 2, byte(h.Session)<<3|2, 0)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// Parse reads a header from the beginning of b and says how many bytes it
// took. ErrShort means that b may become a header with more bytes.
func Parse(b []byte) (Header, int, error) {
	n := min(len(b), len(preface))
	if string(b[:n]) != preface[:n] {
		return Header{}, 0, ErrMissing
	}
	if len(b) < len(preface)+4 {
		return Header{}, 0, ErrShort
	}
	size := binary.BigEndian.Uint32(b[len(preface):])
	if size > MaxLength {
		return Header{}, 0, ErrTooLong
	}
	end := len(preface) + 4 + int(size)
	if len(b) < end {
		return Header{}, 0, ErrShort
	}
	h, err := decode(b[len(preface)+4 : end])
	return h, end, err
}

// field takes one protobuf field off b: its number, its number value or its
// bytes, and the rest.
func field(b []byte) (num uint64, value uint64, data, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return 0, 0, nil, nil, ErrMessage
	}
	b = b[n:]
	switch tag & 7 {
	case 0:
		value, n = binary.Uvarint(b)
		if n <= 0 {
			return 0, 0, nil, nil, ErrMessage
		}
		return tag >> 3, value, nil, b[n:], nil
	case 1, 5:
		size := 4
		if tag&7 == 1 {
			size = 8
		}
		if len(b) < size {
			return 0, 0, nil, nil, ErrMessage
		}
		return tag >> 3, 0, nil, b[size:], nil
	case 2:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return 0, 0, nil, nil, ErrMessage
		}
		end := n + int(size)
		return tag >> 3, 0, b[n:end:end], b[end:], nil
	}
	return 0, 0, nil, nil, ErrMessage
}

func decode(b []byte) (Header, error) {
	var h Header
	var port int64
	for len(b) > 0 {
		num, value, data, rest, err := field(b)
		if err != nil {
			return Header{}, err
		}
		b = rest
		switch num {
		case 1:
			port = int64(int32(value))
		case 2:
			h.Name = string(data)
		case 3:
			for len(data) > 0 {
				kind, _, _, rest, err := field(data)
				if err != nil {
					return Header{}, err
				}
				data = rest
				switch kind {
				case 1:
					h.Session = HTTP1
				case 2:
					h.Session = HTTP2
				}
			}
		}
	}
	if port <= 0 || port > 65535 {
		return Header{}, fmt.Errorf("%w: %d", ErrPort, port)
	}
	h.Port = uint16(port)
	if h.Name != "" && !validName(h.Name) {
		return Header{}, fmt.Errorf("%w: %q", ErrName, h.Name)
	}
	return h, nil
}

func validName(s string) bool {
	if len(s) > 0 && s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		x := s[i]
		switch {
		case 'a' <= x && x <= 'z', 'A' <= x && x <= 'Z', '0' <= x && x <= '9', x == '-', x == '_':
			if label++; label > 63 {
				return false
			}
		case x == '.' && label > 0:
			label = 0
		default:
			return false
		}
	}
	return label > 0
}
