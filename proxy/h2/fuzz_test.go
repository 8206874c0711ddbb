package h2

import (
	"bytes"
	"io"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

// frames makes a seed.
func frames(f func(*xhttp2.Framer)) []byte {
	var b bytes.Buffer
	f(xhttp2.NewFramer(&b, nil))
	return b.Bytes()
}

// FuzzServer: whatever follows the preface, the server neither panics nor
// hangs, and every handler returns.
func FuzzServer(f *testing.F) {
	head := []byte{0x82, 0x86, 0x84, 0x01, 1, 'a'}
	f.Add(frames(func(fr *xhttp2.Framer) {
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true, EndStream: true})
		fr.WritePing(false, [8]byte{})
		fr.WriteWindowUpdate(0, 5)
	}))
	f.Add(frames(func(fr *xhttp2.Framer) {
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: head[:3]})
		fr.WriteContinuation(1, true, head[3:])
		fr.WriteData(1, false, []byte("data"))
		fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)
		fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
	}))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		ours, theirs := faultconn.Pipe(1 << 20)
		io.WriteString(theirs, Preface)
		xhttp2.NewFramer(theirs, nil).WriteSettings()
		theirs.Write(in)
		theirs.(interface{ CloseWrite() error }).CloseWrite()
		done := make(chan struct{})
		go func() { io.Copy(io.Discard, theirs); theirs.Close(); close(done) }()
		NewServer(ours, exchange.HandlerFunc(func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: -1}
			x.Respond(&h, x.Body)
		}), nil, Options{}).Serve()
		<-done
	})
}

// FuzzClient: whatever a server sends, a request ends, and so does the
// connection.
func FuzzClient(f *testing.F) {
	f.Add(frames(func(fr *xhttp2.Framer) {
		fr.WriteSettings()
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
		fr.WriteData(1, true, []byte("data"))
	}))
	f.Add(frames(func(fr *xhttp2.Framer) {
		fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})
		fr.WriteGoAway(0, xhttp2.ErrCodeNo, []byte("bye"))
	}))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		ours, theirs := faultconn.Pipe(1 << 20)
		done := make(chan struct{})
		go func() { io.Copy(io.Discard, theirs); close(done) }()
		c := NewClientConn(ours, Options{})
		go func() {
			theirs.Write(in)
			theirs.(interface{ CloseWrite() error }).CloseWrite()
		}()
		resp, err := c.RoundTrip(nil, request("GET"), exchange.Empty)
		if err == nil {
			for !resp.Body.Ended() {
				if _, err := resp.Body.Next(); err != nil {
					break
				}
			}
			resp.Close()
		}
		c.Close()
		c.Wait()
		theirs.Close()
		<-done
	})
}
