// Package app has the applications that are served behind the proxies, where
// nginx does not do: a gRPC server that echoes messages, and a source and sink
// of bytes. Both are as cheap as can be, since they share the machine with what
// is measured.
//
// Servers run until their listener is closed; a goroutine serves each
// connection and ends with it.
package app

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/linkerd-go/linkerd-go/bench/load"
)

// Echo serves gRPC calls over HTTP/2 without TLS: each message comes back as
// it is, unary or streaming, and a call ends with status 0 when its client ends
// it. It does not look at names or encodings.
func Echo(l net.Listener) error {
	return serve(l, func(c *net.TCPConn) error {
		e := &echo{c: c, r: make([]byte, 256<<10)}
		return e.serve()
	})
}

func serve(l net.Listener, handle func(*net.TCPConn) error) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_ = handle(c.(*net.TCPConn)) // the client measures, and sees it
		}()
	}
}

// Response headers and trailers, which use no dynamic table and so serve all
// connections.
var headers, trailers = block(":status", "200", "content-type", "application/grpc"), block("grpc-status", "0")

func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // a buffer takes all
	}
	return b.Bytes()
}

type echo struct {
	c *net.TCPConn
	// r[:n] was read and is not taken yet.
	r    []byte
	n    int
	w    []byte
	owed int
}

func (e *echo) serve() error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(e.c, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return fmt.Errorf("the client begins with %q", preface)
	}
	// Many streams at once, and windows that are never used up by them.
	settings := []byte{0, byte(http2.SettingMaxConcurrentStreams), 0, 0, 4, 0, 0, byte(http2.SettingInitialWindowSize), 0, 0x10, 0, 0}
	e.w = load.AppendFrame(e.w, byte(http2.FrameSettings), 0, 0, settings)
	e.w = load.AppendFrame(e.w, byte(http2.FrameWindowUpdate), 0, 0, []byte{0, 0xf, 0, 0})
	for {
		in := e.r[:e.n]
		for len(in) >= 9 {
			n := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
			if len(in) < 9+n {
				break
			}
			e.frame(http2.FrameType(in[3]), http2.Flags(in[4]), binary.BigEndian.Uint32(in[5:])&(1<<31-1), in[9:9+n])
			in = in[9+n:]
		}
		e.n = copy(e.r, in)
		// All that one read brought is answered by one write.
		if len(e.w) > 0 {
			if _, err := e.c.Write(e.w); err != nil {
				return err
			}
			e.w = e.w[:0]
		}
		n, err := e.c.Read(e.r[e.n:])
		if err != nil {
			return err
		}
		e.n += n
	}
}

func (e *echo) frame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	switch typ {
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			e.w = load.AppendFrame(e.w, byte(typ), byte(http2.FlagSettingsAck), 0, nil)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			e.w = load.AppendFrame(e.w, byte(typ), byte(http2.FlagPingAck), 0, payload)
		}
	case http2.FrameHeaders:
		e.w = load.AppendFrame(e.w, byte(typ), byte(http2.FlagHeadersEndHeaders), stream, headers)
	case http2.FrameData:
		if len(payload) == 0 {
			break
		}
		e.w = load.AppendFrame(e.w, byte(typ), 0, stream, payload)
		if !flags.Has(http2.FlagDataEndStream) {
			size := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
			e.w = load.AppendFrame(e.w, byte(http2.FrameWindowUpdate), 0, stream, size)
		}
		if e.owed += len(payload); e.owed >= 256<<10 {
			e.w = load.AppendFrame(e.w, byte(http2.FrameWindowUpdate), 0, 0, binary.BigEndian.AppendUint32(nil, uint32(e.owed)))
			e.owed = 0
		}
	}
	if (typ == http2.FrameHeaders || typ == http2.FrameData) && flags.Has(http2.FlagDataEndStream) {
		end := http2.FlagHeadersEndStream | http2.FlagHeadersEndHeaders
		e.w = load.AppendFrame(e.w, byte(http2.FrameHeaders), byte(end), stream, trailers)
	}
}

// Bulk serves what load.Bulk asks for: the first byte says who sends.
func Bulk(l net.Listener) error {
	return serve(l, func(c *net.TCPConn) error {
		f, err := c.File() // a blocking descriptor, for the loops of package load
		if err != nil {
			return err
		}
		defer f.Close()
		var first [1]byte
		if _, err := io.ReadFull(f, first[:]); err != nil {
			return err
		}
		var moved atomic.Uint64
		if first[0] == load.Upload {
			return load.Discard(int(f.Fd()), &moved)
		}
		return load.Send(int(f.Fd()), &moved)
	})
}
