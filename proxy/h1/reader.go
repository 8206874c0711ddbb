package h1

import (
	"errors"
	"io"
	"net"
	"slices"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

const (
	// headBuffer is what a connection reads a head into at first.
	headBuffer = 4 << 10
	// largeHead is the buffer beyond which a head has to ask whether there is
	// memory for it.
	largeHead = 16 << 10
	// bodyBuffer is taken for bodies that do not fit beside their head, longBody
	// for those that are longer than that, or of unknown length and not slow.
	bodyBuffer = 32 << 10
	longBody   = 64 << 10
	// most is the largest buffer that is taken for a message because the last
	// one would have filled it. It is kept until the message is answered.
	most = longBody
)

// reader is the reading half of a connection.
//
// head holds the current head, then whatever was read with it. Once that is
// used up the space behind the head is read into again and again, or big, if
// more seems to come.
type reader struct {
	conn net.Conn
	head *buf.Buffer // nil while idle
	big  *buf.Buffer // nil mostly
	cur  *buf.Buffer // head or big: where r and w are
	r, w int         // cur.B[r:w] was read and not consumed
	base int         // cur.B[:base] must not be written over
	full bool        // the last read filled its space: more will come
	// size is how long the present message is, as far as it was read, and last
	// how long the one before was: a connection whose messages are long reads
	// the next with few calls, and passes it on in large pieces.
	size, last int
	// scarce, if set, tells that memory is.
	scarce func() bool
	// limit, if set, is called once for a head of which only a part has come,
	// before the rest is waited for. Most heads come whole, and a limit that is
	// set and lifted for each of them is a good part of what it costs to read one.
	limit func() error
}

// readHead reads until p has a whole head. It returns io.EOF if the connection
// ended before the first byte. began is called once the first byte is there.
func (rd *reader) readHead(p *parser, began func() error) error {
	rd.rewind()
	if began != nil && rd.w > rd.r {
		if err := began(); err != nil {
			return err
		}
		began = nil
	}
	limited := rd.limit == nil
	for {
		if rd.w > rd.r {
			n, err := p.parse(rd.cur.B[rd.r:rd.w])
			if err != nil {
				return err
			}
			if n > MaxHead {
				return errHeadTooLarge
			}
			if n > 0 {
				rd.r += n
				rd.base = rd.r
				return nil
			}
		}
		have := rd.w - rd.r
		if have > MaxHead {
			return errHeadTooLarge
		}
		var n int
		var err error
		if rd.head == nil {
			want := headBuffer
			if rd.last > headBuffer && (rd.scarce == nil || !rd.scarce()) {
				want = min(rd.last, most)
			}
			rd.head, n, err = netx.ReadLazy(rd.conn, want)
			rd.cur, rd.r, rd.w = rd.head, 0, n
			rd.size = n
		} else {
			if !limited {
				limited = true
				if err := rd.limit(); err != nil {
					return err
				}
			}
			if rd.w == len(rd.cur.B) {
				if rd.r > 0 {
					copy(rd.cur.B, rd.cur.B[rd.r:rd.w])
					rd.r, rd.w = 0, have
				} else {
					if len(rd.cur.B) >= largeHead && rd.scarce != nil && rd.scarce() {
						return errHeadNoMemory
					}
					rd.head = rd.cur.Grow(have, min(2*len(rd.cur.B), buf.Max))
					rd.cur = rd.head
				}
				p.again()
			}
			n, err = rd.conn.Read(rd.cur.B[rd.w:])
			rd.w += n
			rd.size += n
		}
		if n > 0 && began != nil {
			if err := began(); err != nil {
				return err
			}
			began = nil
		}
		if n == 0 && err != nil {
			if have > 0 && errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// rewind gives up the last head: what is left unread moves to the front of the
// head buffer, and without anything left there is no buffer.
func (rd *reader) rewind() {
	rd.last = rd.size
	if rd.r == rd.w {
		rd.release()
		return
	}
	rest := rd.cur.B[rd.r:rd.w]
	if rd.cur == rd.big {
		if len(rest) > len(rd.head.B) {
			rd.head.Free()
			rd.head, rd.big = rd.big, nil
		}
	}
	copy(rd.head.B, rest)
	rd.size = len(rest)
	rd.big.Free()
	rd.big = nil
	rd.cur, rd.r, rd.w, rd.base, rd.full = rd.head, 0, len(rest), 0, false
}

// release gives the buffers back, with whatever is in them.
func (rd *reader) release() {
	rd.big.Free()
	rd.head.Free()
	rd.head, rd.big, rd.cur = nil, nil, nil
	rd.r, rd.w, rd.base, rd.full = 0, 0, 0, false
}

// fill reads more of a body, after all that was read is consumed. want is how
// much is still to come, or -1.
func (rd *reader) fill(want int64) error {
	const least = 1 << 10
	space := len(rd.cur.B) - rd.base
	if rd.cur == rd.head && space < bodyBuffer && (rd.full || space < least || want > int64(space)) && (want < 0 || want > int64(space)) {
		if rd.big == nil {
			size := bodyBuffer
			if want > bodyBuffer || want < 0 && rd.full {
				size = longBody
			}
			rd.big = buf.Get(size)
		}
		rd.cur, rd.base = rd.big, 0
	}
	rd.r, rd.w = rd.base, rd.base
	n, err := rd.conn.Read(rd.cur.B[rd.base:])
	rd.w = rd.base + n
	rd.size += n
	rd.full = rd.w == len(rd.cur.B)
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// unread takes what was read and not consumed out of the reader, as a
// connection that begins with it.
func (rd *reader) unread() net.Conn {
	b, r, w := rd.cur, rd.r, rd.w
	if b == nil {
		return rd.conn
	}
	if b == rd.head {
		rd.head = nil
	} else {
		rd.big = nil
	}
	rd.cur, rd.r, rd.w = nil, 0, 0
	rd.release()
	return netx.WithBuffer(rd.conn, b, r, w)
}

// Kinds of body framing.
const (
	byLength = iota
	byChunks
	byEOF
)

// Where a chunked body stands.
const (
	chunkSize    = iota // within the digits of a size
	chunkExt            // within an extension, until CR
	chunkSizeLF         // LF ends the size line
	chunkData           // within data
	chunkDataCR         // CR LF after data
	chunkDataLF         //
	chunkTrailer        // within the trailer section
	chunkDone
)

// body is a message body on a reader: exchange.Body without Close, which both
// sides do differently.
type body struct {
	rd       *reader
	kind     int
	left     int64 // bytes to come, of the body or of the chunk
	state    int
	digits   int
	ext      int
	ended    bool
	err      error // final
	trailers exchange.Fields
	tbuf     []byte // the trailer section as it arrives
	// before is called once before the first byte is waited for: the server
	// sends 100 (Continue) there.
	before func() error
}

func (b *body) start(rd *reader, kind int, length int64) {
	b.rd, b.kind, b.left = rd, kind, length
	b.state, b.digits, b.ext = chunkSize, 0, 0
	b.ended, b.err = false, nil
	b.tbuf = b.tbuf[:0]
	b.before = nil
}

// Ready implements exchange.Body. It steps over chunk framing, so that it does
// not promise data when only the framing is there.
func (b *body) Ready() bool {
	if b.ended || b.err != nil {
		return true
	}
	if b.kind == byChunks {
		b.skip()
		return b.err != nil || b.state == chunkDone || b.state == chunkData && b.rd.w > b.rd.r
	}
	return b.rd.w > b.rd.r
}

// Ended implements exchange.Body.
func (b *body) Ended() bool { return b.ended }

// Next implements exchange.Body.
func (b *body) Next() (exchange.Frame, error) {
	for {
		if b.err != nil {
			return exchange.Frame{}, b.err
		}
		if b.kind == byChunks {
			b.skip()
			if b.err != nil {
				return exchange.Frame{}, b.err
			}
			if b.state == chunkDone {
				return b.end(nil), nil
			}
		}
		rd := b.rd
		if rd.w > rd.r && (b.kind != byChunks || b.state == chunkData) {
			data := rd.cur.B[rd.r:rd.w]
			if b.kind != byEOF {
				if int64(len(data)) > b.left {
					data = data[:b.left]
				}
				b.left -= int64(len(data))
			}
			rd.r += len(data)
			switch {
			case b.kind == byLength && b.left == 0:
				return b.end(data), nil
			case b.kind == byChunks && b.left == 0:
				b.state = chunkDataCR
				// The end is told with the last data if it is here.
				if b.skip(); b.state == chunkDone && b.err == nil {
					return b.end(data), nil
				}
			}
			return exchange.Frame{Data: data}, nil
		}
		if b.before != nil {
			before := b.before
			b.before = nil
			if err := before(); err != nil {
				b.err = err
				continue
			}
		}
		want := int64(-1)
		if b.kind == byLength {
			want = b.left
		}
		if err := rd.fill(want); err != nil {
			if errors.Is(err, io.EOF) {
				if b.kind == byEOF {
					return b.end(nil), nil
				}
				err = io.ErrUnexpectedEOF
			}
			b.err = err
		}
	}
}

// end makes the last frame.
func (b *body) end(data []byte) exchange.Frame {
	b.ended = true
	f := exchange.Frame{Data: data, End: true}
	if b.kind == byChunks && len(b.trailers.List) > 0 {
		f.Trailers = &b.trailers
	}
	return f
}

// maxTrailers bounds the trailer section, maxExt the extensions of one chunk.
const (
	maxTrailers = 16 << 10
	maxExt      = 4 << 10
)

// skip goes over the framing of chunks in what was read, up to data, the end,
// or the end of what is there.
func (b *body) skip() {
	rd := b.rd
	for rd.r < rd.w {
		if b.state == chunkData || b.state == chunkDone {
			return
		}
		c := rd.cur.B[rd.r]
		rd.r++
		switch b.state {
		case chunkSize:
			var d int64
			switch {
			case '0' <= c && c <= '9':
				d = int64(c - '0')
			case 'a' <= c && c <= 'f':
				d = int64(c-'a') + 10
			case 'A' <= c && c <= 'F':
				d = int64(c-'A') + 10
			default:
				if b.digits == 0 {
					b.err = errChunk
					return
				}
				switch c {
				case '\r':
					b.state = chunkSizeLF
				case ';', ' ', '\t':
					b.state, b.ext = chunkExt, 0
				default:
					b.err = errChunk
					return
				}
				continue
			}
			if b.digits == 0 {
				b.left = 0
			}
			if b.digits++; b.digits > 15 {
				b.err = errChunk
				return
			}
			b.left = b.left<<4 | d
		case chunkExt:
			switch {
			case c == '\r':
				b.state = chunkSizeLF
			case class[c]&isValue == 0:
				b.err = errChunk
				return
			}
			if b.ext++; b.ext > maxExt {
				b.err = errChunk
				return
			}
		case chunkSizeLF:
			if c != '\n' {
				b.err = errChunk
				return
			}
			b.digits = 0
			if b.left > 0 {
				b.state = chunkData
			} else {
				b.state = chunkTrailer
				b.trailers.Reset()
			}
		case chunkDataCR:
			if c != '\r' {
				b.err = errChunk
				return
			}
			b.state = chunkDataLF
		case chunkDataLF:
			if c != '\n' {
				b.err = errChunk
				return
			}
			b.state, b.left = chunkSize, 0
		case chunkTrailer:
			b.tbuf = append(b.tbuf, c)
			n := len(b.tbuf)
			switch {
			case n > maxTrailers:
				b.err = errTrailers
				return
			case c != '\n':
			case n == 2 && b.tbuf[0] == '\r':
				b.state = chunkDone
			case n >= 4 && string(b.tbuf[n-4:]) == "\r\n\r\n":
				if b.err = b.parseTrailers(); b.err != nil {
					return
				}
				b.state = chunkDone
			}
		}
	}
}

// parseTrailers parses the collected section. The fields point into tbuf.
func (b *body) parseTrailers() error {
	p := parser{fields: &b.trailers, fr: framing{length: -1}}
	for rest := b.tbuf; ; {
		i := 0
		for rest[i] != '\n' {
			i++
		}
		if i == 0 || rest[i-1] != '\r' {
			return errTrailers
		}
		line := rest[:i-1]
		rest = rest[i+1:]
		if len(line) == 0 {
			break
		}
		if err := p.field(line); err != nil {
			return err
		}
	}
	b.trailers.List = slices.DeleteFunc(b.trailers.List, func(f exchange.Field) bool { return notInTrailers(f.Name) })
	return nil
}

// notInTrailers reports whether a field has no place in trailers, since it says how
// a message is framed or whom it is for (RFC 9110, section 6.5.1). A server that
// puts trailers beside the other fields might heed it.
func notInTrailers(name []byte) bool {
	switch len(name) {
	case 4:
		return exchange.EqualFold(name, "host")
	case 10:
		return exchange.EqualFold(name, "connection")
	case 14:
		return exchange.EqualFold(name, "content-length")
	case 17:
		return exchange.EqualFold(name, "transfer-encoding")
	}
	return false
}
