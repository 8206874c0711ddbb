package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2/hpack"
)

// Frame types and flags of HTTP/2 (RFC 9113, section 6) that are of use here.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// AppendFrame appends a frame.
func AppendFrame(b []byte, typ, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// Message is a gRPC message of size bytes with its prefix of five.
func Message(size int) []byte {
	b := make([]byte, 5+size)
	binary.BigEndian.PutUint32(b[1:], uint32(size))
	return b
}

// http2 is a client connection that makes gRPC calls: many unary ones, or, when
// streaming, messages on a few long streams whose server echoes them. It does
// not decode response headers: what is not a DATA frame and ends a stream that
// had no DATA is an error, which catches every refusal.
type http2 struct {
	o       *Options
	headers []byte
	message []byte
	next    uint32
	calls   map[uint32]*call
	free    []*call
	// streams are the long ones, in the order of their turn.
	streams []*call
	turn    int
	// window is what the peer still takes on the connection.
	window int
	in     []byte
	// owed is DATA received and not yet given back to the peer.
	owed int
	// refused is why the server wants no more.
	refused error
}

type call struct {
	id     uint32
	began  []time.Time // oldest first
	got    int
	window int
	owed   int
}

func newHTTP2(o *Options) *http2 {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	// Nothing goes into the peer's table, so that one block serves all streams.
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: o.Path},
		{Name: ":authority", Value: o.Authority}, {Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"}, {Name: "user-agent", Value: "bench"}, {Name: "grpc-timeout", Value: "1H"},
	} {
		f.Sensitive = true
		_ = e.WriteField(f) // a buffer takes all
	}
	return &http2{o: o, headers: b.Bytes(), message: Message(o.Body), next: 1, calls: map[uint32]*call{}, window: 65535}
}

func (c *http2) start(out []byte) []byte {
	out = append(out, preface...)
	// A large window, so that what is measured is not this client's.
	out = AppendFrame(out, frameSettings, 0, 0, []byte{0, 4, 0, 0x10, 0, 0})
	out = AppendFrame(out, frameWindowUpdate, 0, 0, []byte{0, 0xf, 0, 0})
	for range c.o.Streams {
		s := c.open()
		c.streams = append(c.streams, s)
		out = AppendFrame(out, frameHeaders, flagEndHeaders, s.id, c.headers)
	}
	return out
}

func (c *http2) open() *call {
	s := &call{}
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
	}
	*s = call{id: c.next, began: s.began[:0], window: 65535}
	c.calls[s.id] = s
	c.next += 2
	return s
}

func (c *http2) inFlight() int {
	if c.streams == nil {
		return len(c.calls)
	}
	n := 0
	for _, s := range c.streams {
		n += len(s.began)
	}
	return n
}

func (c *http2) room() int {
	return min(c.o.InFlight-c.inFlight(), c.window/len(c.message))
}

func (c *http2) begin(out []byte, at time.Time) []byte {
	c.window -= len(c.message)
	if c.streams == nil {
		s := c.open()
		s.began = append(s.began, at)
		out = AppendFrame(out, frameHeaders, flagEndHeaders, s.id, c.headers)
		return AppendFrame(out, frameData, flagEndStream, s.id, c.message)
	}
	s := c.streams[c.turn]
	c.turn = (c.turn + 1) % len(c.streams)
	s.began = append(s.began, at)
	return AppendFrame(out, frameData, 0, s.id, c.message)
}

func (c *http2) read(in, out []byte, done func(time.Time)) ([]byte, error) {
	if len(c.in) > 0 {
		c.in = append(c.in, in...)
		in = c.in
	}
	for len(in) >= 9 {
		n := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
		if len(in) < 9+n {
			break
		}
		var err error
		if out, err = c.frame(in[3], in[4], binary.BigEndian.Uint32(in[5:])&(1<<31-1), in[9:9+n], out, done); err != nil {
			return out, err
		}
		in = in[9+n:]
	}
	c.in = append(c.in[:0], in...)
	// Give back what was read, once half of the window is used.
	if c.owed >= 256<<10 {
		out = AppendFrame(out, frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(c.owed)))
		c.owed = 0
	}
	return out, c.refused
}

func (c *http2) frame(typ, flags byte, stream uint32, payload, out []byte, done func(time.Time)) ([]byte, error) {
	switch typ {
	case frameSettings:
		if flags&flagAck == 0 {
			out = AppendFrame(out, frameSettings, flagAck, 0, nil)
		}
	case framePing:
		if flags&flagAck == 0 {
			out = AppendFrame(out, framePing, flagAck, 0, payload)
		}
	case frameWindowUpdate:
		if stream == 0 {
			c.window += int(binary.BigEndian.Uint32(payload))
		}
	case frameGoAway:
		// nginx ends a connection politely after many requests; the
		// generator starts a new one.
		c.refused = errGoAway
	case frameReset:
		return out, fmt.Errorf("stream %d was reset with code %d", stream, binary.BigEndian.Uint32(payload))
	case frameHeaders:
		if flags&flagEndStream != 0 {
			return out, c.end(stream, done)
		}
	case frameData:
		s := c.calls[stream]
		if s == nil {
			return out, fmt.Errorf("data on unknown stream %d", stream)
		}
		s.got += len(payload)
		c.owed += len(payload)
		if c.streams != nil {
			if s.owed += len(payload); s.owed >= 256<<10 {
				out = AppendFrame(out, frameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, uint32(s.owed)))
				s.owed = 0
			}
			n := 0
			for ; s.got >= len(c.message); s.got -= len(c.message) {
				if n == len(s.began) {
					return out, fmt.Errorf("stream %d has more answers than questions", stream)
				}
				done(s.began[n])
				n++
			}
			s.began = s.began[:copy(s.began, s.began[n:])]
		}
		if flags&flagEndStream != 0 {
			return out, c.end(stream, done)
		}
	}
	return out, nil
}

var errGoAway = errors.New("the server wants no more")

// end takes the end of a stream.
func (c *http2) end(stream uint32, done func(time.Time)) error {
	s := c.calls[stream]
	switch {
	case s == nil:
		return fmt.Errorf("end of unknown stream %d", stream)
	case c.streams != nil:
		return fmt.Errorf("the server ended stream %d", stream)
	case s.got < len(c.message):
		return fmt.Errorf("the call on stream %d was refused", stream)
	}
	delete(c.calls, stream)
	c.free = append(c.free, s)
	done(s.began[0])
	return nil
}
