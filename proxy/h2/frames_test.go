package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// peer is the other end of a connection, driven frame by frame with x/net's
// framer. What it receives is collected as text by a goroutine, so that it
// always reads.
type peer struct {
	t    *testing.T
	nc   net.Conn
	fr   *xhttp2.Framer
	enc  *xhpack.Encoder
	hbuf bytes.Buffer
	stop chan struct{} // closed when reading ended

	mu   sync.Mutex
	seen []string
	got  map[uint32]int // DATA bytes by stream
}

func newPeer(t *testing.T, nc net.Conn, read bool) *peer {
	p := &peer{t: t, nc: nc, fr: xhttp2.NewFramer(nc, nc), stop: make(chan struct{}), got: map[uint32]int{}}
	p.enc = xhpack.NewEncoder(&p.hbuf)
	p.fr.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
	p.fr.AllowIllegalWrites = true
	if read {
		go p.read()
	} else {
		close(p.stop)
	}
	return p
}

func (p *peer) read() {
	defer close(p.stop)
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.note("end")
			return
		}
		s := f.Header().StreamID
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			var h []string
			for _, x := range f.Fields {
				if x.Name == "date" {
					x.Value = "now"
				}
				h = append(h, x.Name+"="+x.Value)
			}
			p.note("HEADERS %d %s%s", s, strings.Join(h, " "), end(f.StreamEnded()))
		case *xhttp2.DataFrame:
			p.mu.Lock()
			p.got[s] += len(f.Data())
			p.mu.Unlock()
			p.note("DATA %d %d%s", s, len(f.Data()), end(f.StreamEnded()))
		case *xhttp2.RSTStreamFrame:
			p.note("RST_STREAM %d %v", s, f.ErrCode)
		case *xhttp2.GoAwayFrame:
			last := fmt.Sprint(f.LastStreamID)
			if f.LastStreamID == maxWindow {
				last = "max"
			}
			p.note("GOAWAY %s %v %s", last, f.ErrCode, f.DebugData())
		case *xhttp2.WindowUpdateFrame:
			p.note("WINDOW_UPDATE %d %d", s, f.Increment)
		case *xhttp2.PingFrame:
			if f.IsAck() {
				p.note("PING ack")
			} else {
				p.note("PING %s", f.Data)
			}
		case *xhttp2.SettingsFrame:
			if f.IsAck() {
				p.note("SETTINGS ack")
			}
		}
	}
}

func end(e bool) string {
	if e {
		return " end"
	}
	return ""
}

func (p *peer) note(format string, args ...any) {
	p.mu.Lock()
	p.seen = append(p.seen, strings.TrimSpace(fmt.Sprintf(format, args...)))
	p.mu.Unlock()
}

// take waits until everything has come to rest and returns what was received
// since.
func (p *peer) take() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := strings.Join(p.seen, "\n")
	p.seen = nil
	return s
}

// expect compares what was received, line by line.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	if got := p.take(); got != strings.Join(want, "\n") {
		p.t.Errorf("received\n\t%s\nwant\n\t%s", strings.ReplaceAll(got, "\n", "\n\t"), strings.Join(want, "\n\t"))
	}
}

// block encodes a header block: name, value, name, value.
func (p *peer) block(fields ...string) []byte {
	p.hbuf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(xhpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.hbuf.Bytes())
}

func (p *peer) headers(id uint32, endStream bool, fields ...string) {
	p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: endStream})
}

// get opens a stream with a GET or a POST.
func (p *peer) open(id uint32, method string, extra ...string) {
	p.headers(id, method == "GET", append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", "/"}, extra...)...)
}

// withServer runs a server with h against a scripted client, in virtual time.
func withServer(t *testing.T, o Options, h exchange.HandlerFunc, script func(s *Server, p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := NewServer(ours, h, nil, o)
		done := make(chan error)
		go func() { done <- s.Serve() }()
		p := newPeer(t, theirs, true)
		io.WriteString(theirs, Preface)
		p.fr.WriteSettings()
		p.fr.WriteSettingsAck()
		p.expect("WINDOW_UPDATE 0 983041", "SETTINGS ack")
		script(s, p)
		theirs.Close()
		<-done
		<-p.stop
	})
}

func ok(x *exchange.Exchange) {
	h := exchange.ResponseHead{Status: 200, ContentLength: 2}
	x.Respond(&h, &exchange.Bytes{Data: []byte("ok")})
}

const okHead = ":status=200 content-length=2 date=now"

func TestServerAnswers(t *testing.T) {
	withServer(t, Options{}, ok, func(s *Server, p *peer) {
		p.open(1, "GET")
		p.expect("HEADERS 1 "+okHead, "DATA 1 2 end")
		// The request's body was not read: the client is told to stop.
		p.open(3, "POST")
		p.expect("HEADERS 3 "+okHead, "DATA 3 2 end", "RST_STREAM 3 NO_ERROR")
	})
}

func TestServerDrain(t *testing.T) {
	var release chan struct{}
	withServer(t, Options{}, func(x *exchange.Exchange) {
		<-release
		ok(x)
	}, func(s *Server, p *peer) {
		release = make(chan struct{}) // within the bubble of virtual time
		p.open(1, "GET")
		synctest.Wait()
		s.Drain()
		p.expect("GOAWAY max NO_ERROR", "PING l5d-last")
		p.open(3, "GET") // was on its way: is still served
		p.fr.WritePing(true, [8]byte([]byte("l5d-last")))
		p.expect("GOAWAY 3 NO_ERROR")
		p.open(5, "GET") // is not
		p.expect()
		close(release)
		p.take()
		p.mu.Lock()
		n := p.got[1] + p.got[3] + p.got[5]
		p.mu.Unlock()
		if n != 4 {
			t.Errorf("%d bytes of responses, want those of two streams", n)
		}
		select {
		case <-p.stop:
		default:
			t.Error("connection was not closed after the last stream")
		}
	})
}

func TestServerDrainDoesNotWaitForPing(t *testing.T) {
	withServer(t, Options{}, ok, func(s *Server, p *peer) {
		s.Drain()
		p.expect("GOAWAY max NO_ERROR", "PING l5d-last")
		time.Sleep(2 * stopTimeout)
		p.expect("GOAWAY 0 NO_ERROR", "end")
	})
}

func TestServerKeepAlive(t *testing.T) {
	o := Options{KeepAliveInterval: 10 * time.Second, KeepAliveTimeout: 3 * time.Second}
	withServer(t, o, ok, func(s *Server, p *peer) {
		time.Sleep(11 * time.Second)
		p.expect("PING l5d-live")
		p.fr.WritePing(true, [8]byte([]byte("l5d-live")))
		time.Sleep(12 * time.Second)
		// The answer counted; the next silence is asked about again.
		p.take()
		time.Sleep(20 * time.Second)
		p.expect("GOAWAY 0 NO_ERROR keep-alive timed out", "end")
	})
}

func TestServerResets(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    exchange.HandlerFunc
		want []string
	}{
		{"handler does not answer", func(x *exchange.Exchange) {}, []string{"RST_STREAM 1 INTERNAL_ERROR"}},
		{"handler passes on a reset", func(x *exchange.Exchange) {
			x.Cancel(&exchange.ResetError{Code: 0xd, Remote: true})
		}, []string{"RST_STREAM 1 HTTP_1_1_REQUIRED"}},
		{"body ends with a reset", func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: -1}
			x.Respond(&h, &failingBody{&exchange.ResetError{Code: 0xb, Remote: true}})
		}, []string{"HEADERS 1 :status=200 date=now", "DATA 1 4", "RST_STREAM 1 ENHANCE_YOUR_CALM"}},
		{"body fails", func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: -1}
			x.Respond(&h, &failingBody{io.ErrUnexpectedEOF})
		}, []string{"HEADERS 1 :status=200 date=now", "DATA 1 4", "RST_STREAM 1 INTERNAL_ERROR"}},
		{"body is shorter than announced", func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: 3}
			x.Respond(&h, &exchange.Bytes{Data: []byte("ok")})
		}, []string{"HEADERS 1 :status=200 content-length=3 date=now", "RST_STREAM 1 INTERNAL_ERROR"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withServer(t, Options{}, tc.h, func(s *Server, p *peer) {
				p.open(1, "GET")
				p.expect(tc.want...)
			})
		})
	}
}

// failingBody has one frame and then an error.
type failingBody struct{ err error }

func (b *failingBody) Next() (exchange.Frame, error) {
	if b.err == nil {
		return exchange.Frame{}, io.EOF
	}
	if r := b.err; r != errTold {
		b.err = errTold
		told = r
		return exchange.Frame{Data: []byte("data")}, nil
	}
	return exchange.Frame{}, told
}
func (b *failingBody) Ready() bool   { return true }
func (b *failingBody) Ended() bool   { return false }
func (b *failingBody) Close(_ error) {}

var errTold = errors.New("told")
var told error

func TestServerTellsHandlerOfReset(t *testing.T) {
	causes := make(chan error, 1)
	bodies := make(chan error, 1)
	withServer(t, Options{}, func(x *exchange.Exchange) {
		_, err := x.Body.Next()
		bodies <- err
		causes <- x.Cause()
	}, func(s *Server, p *peer) {
		p.open(1, "POST")
		synctest.Wait()
		p.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)
		synctest.Wait()
		var r *exchange.ResetError
		if err := <-bodies; !errors.As(err, &r) || r.Code != codeCancel || !r.Remote {
			t.Errorf("body failed with %v", err)
		}
		if err := <-causes; !errors.Is(err, exchange.ErrClientGone) {
			t.Errorf("exchange was cancelled with %v", err)
		}
		p.expect()
	})
}

// TestFramesAfterAReset: a peer that goes on with a stream it has reset is told
// so, whether or not the handler has ended (RFC 9113, section 5.1).
func TestFramesAfterAReset(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		want         []string
	}{
		{"headers", "get 1", []string{"GOAWAY 1 STREAM_CLOSED HEADERS on a closed stream", "end"}},
		{"data", "data 1 4", []string{"RST_STREAM 1 STREAM_CLOSED"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			withServer(t, Options{}, func(*exchange.Exchange) { time.Sleep(time.Minute) }, func(_ *Server, p *peer) {
				runScript(p, "post 1\nreset 1 8\n"+tc.script)
				p.expect(tc.want...)
			})
		})
	}
}

// TestResetTwice: a stream that is reset again and again counts once among those
// that nobody waits for.
func TestResetTwice(t *testing.T) {
	withServer(t, Options{}, func(x *exchange.Exchange) {
		if string(x.Request.Method) == "GET" {
			ok(x)
			return
		}
		time.Sleep(time.Minute)
	}, func(_ *Server, p *peer) {
		runScript(p, "post 1")
		for range maxZombies + 10 {
			if p.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel) != nil {
				break
			}
		}
		runScript(p, "get 3")
		p.expect("HEADERS 3 :status=200 content-length=2 date=now", "DATA 3 2 end")
	})
}

// TestHeadersAfterTheResponse: a stream whose both sides have ended is closed,
// whether or not the handler has ended (RFC 9113, section 5.1).
func TestHeadersAfterTheResponse(t *testing.T) {
	respond := func(x *exchange.Exchange) {
		h := exchange.ResponseHead{Status: 204}
		_ = x.Respond(&h, exchange.Empty)
		time.Sleep(time.Minute)
	}
	withServer(t, Options{}, respond, func(_ *Server, p *peer) {
		runScript(p, "get 1")
		p.expect("HEADERS 1 :status=204 date=now end")
		runScript(p, "get 1")
		p.expect("GOAWAY 1 STREAM_CLOSED HEADERS on a closed stream", "end")
	})
}

// TestServerLimits is about peers who cost more than they give.
func TestServerLimits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		o      Options
		script func(p *peer)
		want   string // contained in what is received
	}{
		{"rapid reset", Options{}, func(p *peer) {
			// All in one write, so that no stream is started.
			var b bytes.Buffer
			fr := xhttp2.NewFramer(&b, nil)
			for id := uint32(1); id < 61; id += 2 {
				fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true,
					BlockFragment: p.block(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/")})
				fr.WriteRSTStream(id, xhttp2.ErrCodeCancel)
			}
			p.nc.Write(b.Bytes())
		}, "ENHANCE_YOUR_CALM too many streams were reset"},
		{"made to reset", Options{}, func(p *peer) {
			var b bytes.Buffer
			fr := xhttp2.NewFramer(&b, nil)
			for id := uint32(1); id < 61; id += 2 {
				fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true,
					BlockFragment: p.block(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/")})
				fr.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, id, make([]byte, 4))
			}
			p.nc.Write(b.Bytes())
		}, "ENHANCE_YOUR_CALM too many streams were reset"},
		{"made to reset, one after the other", Options{}, func(p *peer) {
			for id := uint32(1); id < 2*1100; id += 2 {
				p.open(id, "GET")
				if p.fr.WriteRawFrame(xhttp2.FrameWindowUpdate, 0, id, make([]byte, 4)) != nil {
					return
				}
			}
		}, "ENHANCE_YOUR_CALM too many streams were reset"},
		{"many continuations", Options{}, func(p *peer) {
			p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: nil})
			for range 100 {
				if p.fr.WriteContinuation(1, false, nil) != nil {
					return
				}
			}
		}, "ENHANCE_YOUR_CALM header block in too many frames"},
		{"long header block", Options{}, func(p *peer) {
			p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16000)})
			for range 10 {
				if p.fr.WriteContinuation(1, false, make([]byte, 16000)) != nil {
					return
				}
			}
		}, "ENHANCE_YOUR_CALM header block is too large"},
		{"header bomb", Options{}, func(p *peer) {
			// One entry of 3 KB, referred to again and again.
			fields := []string{":method", "GET", ":scheme", "http", ":path", "/"}
			for range 50 {
				fields = append(fields, "x", strings.Repeat("y", 3000))
			}
			p.headers(1, true, fields...)
		}, "HEADERS 1 :status=431 content-length=0 date=now end"},
		{"empty data", Options{}, func(p *peer) {
			p.open(1, "POST")
			for range 200 {
				if p.fr.WriteData(1, false, nil) != nil {
					return
				}
			}
		}, "ENHANCE_YOUR_CALM too many empty frames"},
		{"too many streams", Options{MaxConcurrentStreams: 2}, func(p *peer) {
			p.open(1, "GET")
			p.open(3, "GET")
			p.open(5, "GET")
		}, "RST_STREAM 5 REFUSED_STREAM"},
		{"stream window", Options{}, func(p *peer) {
			p.open(1, "POST")
			for range 5 {
				p.fr.WriteData(1, false, make([]byte, 16384))
			}
		}, "RST_STREAM 1 FLOW_CONTROL_ERROR"},
		{"connection window", Options{InitialStreamWindow: 1 << 20, InitialConnectionWindow: 65535}, func(p *peer) {
			p.open(1, "POST")
			for range 5 {
				p.fr.WriteData(1, false, make([]byte, 16384))
			}
		}, "GOAWAY 1 FLOW_CONTROL_ERROR"},
		{"longer than content-length", Options{}, func(p *peer) {
			p.open(1, "POST", "content-length", "3")
			p.fr.WriteData(1, false, []byte("four"))
		}, "RST_STREAM 1 PROTOCOL_ERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				ours, theirs := net.Pipe()
				s := NewServer(ours, exchange.HandlerFunc(func(x *exchange.Exchange) { <-release }), nil, tc.o)
				done := make(chan error)
				go func() { done <- s.Serve() }()
				p := newPeer(t, theirs, true)
				io.WriteString(theirs, Preface)
				p.fr.WriteSettings()
				p.take()
				tc.script(p)
				if got := p.take(); !strings.Contains(got, tc.want) {
					t.Errorf("received\n%s\nwant %s", got, tc.want)
				}
				theirs.Close()
				close(release)
				<-done
				<-p.stop
			})
		})
	}
}

// TestServerDropsPeersThatOnlyAsk sends PING after PING without reading the
// answers.
func TestServerDropsPeersThatOnlyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := NewServer(ours, exchange.HandlerFunc(ok), nil, Options{})
		done := make(chan error, 1)
		go func() { done <- s.Serve() }()
		fr := xhttp2.NewFramer(theirs, nil)
		io.WriteString(theirs, Preface)
		fr.WriteSettings()
		n := 0
		for fr.WritePing(false, [8]byte{}) == nil {
			n++
		}
		if n > maxControl+2*maxLastWords/17 {
			t.Errorf("%d PINGs were taken", n)
		}
		var ce *ConnError
		if err := <-done; !errors.As(err, &ce) || ce.Code != codeCalm {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestBackPressure: a consumer that does not read stops the sender after one
// window, and lets it go on as it reads.
func TestBackPressure(t *testing.T) {
	var step chan struct{}
	withServer(t, Options{}, func(x *exchange.Exchange) {
		n := 0
		for !x.Body.Ended() {
			<-step
			f, err := x.Body.Next()
			if err != nil {
				t.Error(err)
				return
			}
			n += len(f.Data)
		}
		if n != 100000 {
			t.Errorf("handler got %d bytes", n)
		}
		ok(x)
	}, func(s *Server, p *peer) {
		step = make(chan struct{})
		p.open(1, "POST")
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.expect() // nothing was consumed, so nothing is given back
		for range 2 {
			step <- struct{}{}
		}
		p.expect() // the last two are still lent, the first two are less than half a window
		step <- struct{}{}
		p.expect("WINDOW_UPDATE 1 64000")
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.fr.WriteData(1, true, make([]byte, 4000))
		close(step)
		// More may be given back before the end is known.
		if got := p.take(); !strings.HasSuffix(got, "HEADERS 1 "+okHead+"\nDATA 1 2 end") {
			t.Errorf("received %s", got)
		}
	})
}

// TestAdaptiveWindow: windows grow while they are what holds the sender up.
func TestAdaptiveWindow(t *testing.T) {
	withServer(t, Options{AdaptiveWindow: true}, func(x *exchange.Exchange) {
		for !x.Body.Ended() {
			if _, err := x.Body.Next(); err != nil {
				return
			}
		}
		ok(x)
	}, func(s *Server, p *peer) {
		p.open(1, "POST")
		p.fr.WriteData(1, false, make([]byte, 16000))
		p.expect("PING l5d-wind")
		for range 3 {
			p.fr.WriteData(1, false, make([]byte, 16000))
		}
		p.fr.WritePing(true, [8]byte([]byte("l5d-wind")))
		synctest.Wait()
		s.c.mu.Lock()
		win := s.c.streamWin
		s.c.mu.Unlock()
		if win != 128000 {
			t.Errorf("window is %d after 64,000 bytes in a round trip", win)
		}
		p.take()
		for range 7 {
			p.fr.WriteData(1, false, make([]byte, 16000))
		}
		p.fr.WriteData(1, true, nil)
		if got := p.take(); !strings.Contains(got, "HEADERS 1 "+okHead) {
			t.Errorf("received %s", got)
		}
	})
}

// TestIdleWorkersLeave: goroutines of a burst do not stay.
func TestIdleWorkersLeave(t *testing.T) {
	var release chan struct{}
	withServer(t, Options{}, func(x *exchange.Exchange) {
		<-release
		ok(x)
	}, func(s *Server, p *peer) {
		release = make(chan struct{})
		for id := uint32(1); id < 40; id += 2 {
			p.open(id, "GET")
		}
		synctest.Wait()
		close(release)
		synctest.Wait()
		workers := func() int {
			s.c.mu.Lock()
			defer s.c.mu.Unlock()
			return len(s.c.workers)
		}
		if n := workers(); n != 20 {
			t.Errorf("%d idle goroutines after 20 streams", n)
		}
		time.Sleep(2*trimPeriod + time.Second)
		if n := workers(); n != 0 {
			t.Errorf("%d idle goroutines stay", n)
		}
		p.take()
		p.open(41, "GET")
		p.expect("HEADERS 41 "+okHead, "DATA 41 2 end")
	})
}

// TestSlowReaderBoundsMemory: a peer with large windows that does not read its
// socket holds up those who send, and what is buffered for it stays bounded.
func TestSlowReaderBoundsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := NewServer(ours, exchange.HandlerFunc(func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: -1}
			x.Respond(&h, &endless{})
		}), nil, Options{})
		done := make(chan error, 1)
		go func() { done <- s.Serve() }()
		p := newPeer(t, theirs, false)
		io.WriteString(theirs, Preface)
		p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
		p.fr.WriteWindowUpdate(0, 1<<30)
		for id := uint32(1); id < 100; id += 2 {
			p.open(id, "GET")
		}
		synctest.Wait()
		s.c.mu.Lock()
		waiting, buffered := len(s.c.waiters)-s.c.whead, len(s.c.out)
		s.c.mu.Unlock()
		if buffered > 2*highWater || waiting < 49 {
			t.Errorf("%d bytes are buffered, %d streams wait", buffered, waiting)
		}
		theirs.Close()
		<-done
	})
}

// TestSendBufferOfAStream: no more of a stream's data waits than it may, whatever
// the windows allow, and all of it arrives.
func TestSendBufferOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		const length = 50_000
		s := NewServer(ours, exchange.HandlerFunc(func(x *exchange.Exchange) {
			h := exchange.ResponseHead{Status: 200, ContentLength: length}
			x.Respond(&h, &exchange.Bytes{Data: make([]byte, length)})
		}), nil, Options{MaxSendBuffer: 700})
		done := make(chan error, 1)
		go func() { done <- s.Serve() }()
		p := newPeer(t, theirs, false)
		io.WriteString(theirs, Preface)
		p.fr.WriteSettings()
		p.fr.WriteWindowUpdate(0, 1<<20)
		p.open(1, "GET")
		p.open(3, "GET")
		synctest.Wait()
		s.c.mu.Lock()
		buffered := len(s.c.out)
		s.c.mu.Unlock()
		// Both streams' data, with frames' heads, and what else there is to send.
		if buffered > 2*700+300 {
			t.Errorf("%d bytes are buffered", buffered)
		}
		p.stop = make(chan struct{})
		go p.read()
		synctest.Wait()
		p.mu.Lock()
		if p.got[1] != length || p.got[3] != length {
			t.Errorf("received %v", p.got)
		}
		p.mu.Unlock()
		theirs.Close()
		<-done
		<-p.stop
	})
}

// TestSendersTakeTurns: streams that all have much to send get equal parts of
// a narrow connection window.
func TestSendersTakeTurns(t *testing.T) {
	withServer(t, Options{}, func(x *exchange.Exchange) {
		h := exchange.ResponseHead{Status: 200, ContentLength: -1}
		x.Respond(&h, &endless{})
	}, func(s *Server, p *peer) {
		p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
		synctest.Wait()
		for id := uint32(1); id < 8; id += 2 {
			p.open(id, "GET")
		}
		synctest.Wait()
		for range 400 {
			p.fr.WriteWindowUpdate(0, 16384)
			synctest.Wait()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		least, most := 1<<62, 0
		for _, n := range p.got {
			least, most = min(least, n), max(most, n)
		}
		if len(p.got) != 4 || most > least+least/4+3*65535 {
			t.Errorf("streams got %v", p.got)
		}
	})
}

// slowBody is a request body whose end comes late.
type slowBody struct {
	after time.Duration
	done  bool
}

func (b *slowBody) Next() (exchange.Frame, error) {
	time.Sleep(b.after)
	b.done = true
	return exchange.Frame{Data: []byte("late"), End: true}, nil
}
func (b *slowBody) Ready() bool   { return false }
func (b *slowBody) Ended() bool   { return b.done }
func (b *slowBody) Close(_ error) {}

// TestAnsweredEarly: a request whose response is over is sent to its end if that
// is soon, and reset if not.
func TestAnsweredEarly(t *testing.T) {
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{{lastSend / 2, "DATA 1 4 end"}, {2 * lastSend, "RST_STREAM 1 CANCEL"}} {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.take()
			h := request("POST")
			h.ContentLength = -1
			r := send(c, nil, h, &slowBody{after: tc.after})
			p.take()
			p.headers(1, true, ":status", "204")
			if got := <-r; got.status != 204 || got.err != nil {
				t.Errorf("got %+v", got)
			}
			p.expect(tc.want)
		})
	}
}
