package h2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// withClient runs a client against a scripted server.
func withClient(t *testing.T, o Options, script func(c *ClientConn, p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := NewClientConn(ours, o)
		preface := make([]byte, len(Preface))
		io.ReadFull(theirs, preface)
		if string(preface) != Preface {
			t.Errorf("preface %q", preface)
		}
		p := newPeer(t, theirs, true)
		p.take()
		script(c, p)
		theirs.Close()
		c.Close()
		c.Wait()
		<-p.stop
	})
}

func request(method string) *exchange.RequestHead {
	h := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte(method), Path: []byte("/"), Authority: []byte("a")}
	return h
}

// result is what came of a RoundTrip.
type result struct {
	status   int
	body     string
	trailers string
	err      error
}

// send does a request on a goroutine.
func send(c exchange.Client, cn *exchange.Canceler, h *exchange.RequestHead, body exchange.Body) <-chan result {
	ch := make(chan result, 1)
	go func() {
		resp, err := c.RoundTrip(cn, h, body)
		if err != nil {
			ch <- result{err: err}
			return
		}
		r := result{status: resp.Head.Status}
		for !resp.Body.Ended() {
			f, err := resp.Body.Next()
			if err != nil {
				r.err = err
				break
			}
			r.body += string(f.Data)
			if f.Trailers != nil {
				for _, t := range f.Trailers.List {
					r.trailers += fmt.Sprintf("%s=%s ", t.Name, t.Value)
				}
			}
		}
		resp.Close()
		ch <- r
	}()
	synctest.Wait()
	return ch
}

const getHead = ":method=GET :scheme=http :authority=a :path=/"

func TestClient(t *testing.T) {
	t.Run("response with trailers after an informational one", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.expect("SETTINGS ack")
			r := send(c, nil, request("GET"), exchange.Empty)
			p.expect("HEADERS 1 " + getHead + " end")
			p.headers(1, false, ":status", "103", "link", "x")
			p.headers(1, false, ":status", "200")
			p.fr.WriteData(1, false, []byte("body"))
			p.headers(1, true, "grpc-status", "0")
			if got := <-r; got != (result{200, "body", "grpc-status=0 ", nil}) {
				t.Errorf("got %+v", got)
			}
			p.expect()
		})
	})
	t.Run("informational responses without end", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			r := send(c, nil, request("GET"), exchange.Empty)
			for range 2 * maxInformational {
				p.headers(1, false, ":status", "102")
			}
			var re *exchange.ResetError
			if got := <-r; !errors.As(got.err, &re) || re.Code != codeCalm {
				t.Errorf("got %+v", got)
			}
			// Others on the connection go on.
			r = send(c, nil, request("GET"), exchange.Empty)
			p.headers(3, true, ":status", "200")
			if got := <-r; got.status != 200 {
				t.Errorf("then %+v", got)
			}
		})
	})
	t.Run("refused stream is unsent", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			r := send(c, nil, request("GET"), exchange.Empty)
			p.fr.WriteRSTStream(1, xhttp2.ErrCodeRefusedStream)
			if got := <-r; !exchange.Unsent(got.err) {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("reset keeps its code", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			r := send(c, nil, request("GET"), exchange.Empty)
			p.headers(1, false, ":status", "200")
			synctest.Wait()
			p.fr.WriteRSTStream(1, xhttp2.ErrCodeEnhanceYourCalm)
			var re *exchange.ResetError
			if got := <-r; !errors.As(got.err, &re) || re.Code != codeCalm || !re.Remote {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("goaway leaves out later streams", func(t *testing.T) {
		var drained atomic.Bool
		withClient(t, Options{Draining: func() { drained.Store(true) }}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			r1 := send(c, nil, request("GET"), exchange.Empty)
			r3 := send(c, nil, request("GET"), exchange.Empty)
			p.fr.WriteGoAway(1, xhttp2.ErrCodeNo, nil)
			if got := <-r3; !exchange.Unsent(got.err) {
				t.Errorf("stream 3: %+v", got)
			}
			synctest.Wait()
			if !drained.Load() || !c.Draining() {
				t.Error("nobody was told that the connection drains")
			}
			r5 := send(c, nil, request("GET"), exchange.Empty)
			if got := <-r5; !exchange.Unsent(got.err) || !errors.Is(got.err, exchange.ErrDraining) {
				t.Errorf("stream 5: %+v", got)
			}
			p.headers(1, true, ":status", "204")
			if got := <-r1; got.err != nil || got.status != 204 {
				t.Errorf("stream 1: %+v", got)
			}
			time.Sleep(2 * stopTimeout)
			select {
			case <-c.Done():
			default:
				t.Error("connection stays open without streams")
			}
		})
	})
	t.Run("stream numbers run out", func(t *testing.T) {
		var drained atomic.Int32
		withClient(t, Options{Draining: func() { drained.Add(1) }}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.take()
			c.c.mu.Lock()
			c.c.nextID = maxWindow - 2
			c.c.mu.Unlock()
			last := send(c, nil, request("GET"), exchange.Empty)
			next := send(c, nil, request("GET"), exchange.Empty)
			synctest.Wait()
			if got := <-next; !exchange.Unsent(got.err) || drained.Load() != 1 {
				t.Errorf("next request: %+v, told %d times", got, drained.Load())
			}
			p.take()
			p.headers(maxWindow-2, true, ":status", "204")
			if got := <-last; got.status != 204 {
				t.Errorf("last request: %+v", got)
			}
			time.Sleep(2 * stopTimeout)
			select {
			case <-c.Done():
			default:
				t.Error("connection stays open without streams")
			}
		})
	})
	t.Run("streams wait for their turn", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
			p.take()
			r1 := send(c, nil, request("GET"), exchange.Empty)
			r3 := send(c, nil, request("GET"), exchange.Empty)
			var cn exchange.Canceler
			r5 := send(c, &cn, request("GET"), exchange.Empty)
			p.expect("HEADERS 1 " + getHead + " end")
			cn.Cancel(io.ErrNoProgress)
			if got := <-r5; got.err != io.ErrNoProgress {
				t.Errorf("cancelled while waiting: %+v", got)
			}
			p.headers(1, true, ":status", "200")
			<-r1
			p.expect("HEADERS 3 " + getHead + " end")
			p.headers(3, true, ":status", "200")
			<-r3
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.take()
			var cn exchange.Canceler
			r := send(c, &cn, request("GET"), exchange.Empty)
			p.take()
			cn.Cancel(io.ErrNoProgress)
			if got := <-r; got.err != io.ErrNoProgress {
				t.Errorf("got %+v", got)
			}
			p.expect("RST_STREAM 1 CANCEL")
			// What was on its way is ignored.
			p.headers(1, true, ":status", "200")
			p.expect()
		})
	})
	t.Run("early answer to a long upload", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.take()
			h := request("POST")
			h.ContentLength = -1
			r := send(c, nil, h, &endless{})
			p.take()
			p.headers(1, false, ":status", "413")
			p.fr.WriteData(1, true, []byte("too much"))
			p.fr.WriteRSTStream(1, xhttp2.ErrCodeNo)
			if got := <-r; got.status != 413 || got.body != "too much" || got.err != nil {
				t.Errorf("got %+v", got)
			}
			if c.Active() != 0 {
				t.Error("stream is still there")
			}
		})
	})
	t.Run("send window", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
			p.take()
			h := request("POST")
			h.ContentLength = 25
			r := send(c, nil, h, &exchange.Bytes{Data: make([]byte, 25)})
			p.expect("HEADERS 1 :method=POST :scheme=http :authority=a :path=/", "DATA 1 10")
			p.fr.WriteWindowUpdate(1, 3)
			p.expect("DATA 1 3")
			p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 100})
			p.expect("SETTINGS ack", "DATA 1 12 end")
			p.headers(1, true, ":status", "200")
			<-r
		})
	})
	t.Run("keep-alive", func(t *testing.T) {
		o := Options{KeepAliveInterval: 10 * time.Second, KeepAliveTimeout: 3 * time.Second, KeepAliveWhileIdle: true}
		withClient(t, o, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			p.take()
			time.Sleep(21 * time.Second)
			p.take()
			time.Sleep(5 * time.Second)
			select {
			case <-c.Done():
				if !errors.Is(c.Err(), errKeepAlive) {
					t.Errorf("ended with %v", c.Err())
				}
			default:
				t.Error("connection survived the timeout")
			}
		})
	})
	t.Run("connection lost", func(t *testing.T) {
		withClient(t, Options{}, func(c *ClientConn, p *peer) {
			p.fr.WriteSettings()
			r := send(c, nil, request("GET"), exchange.Empty)
			p.nc.Close()
			if got := <-r; got.err == nil || exchange.Unsent(got.err) {
				t.Errorf("got %+v", got)
			}
			r = send(c, nil, request("GET"), exchange.Empty)
			if got := <-r; !exchange.Unsent(got.err) {
				t.Errorf("after the end: %+v", got)
			}
		})
	})
}

// endless is a body that never ends.
type endless struct{}

func (b *endless) Next() (exchange.Frame, error) {
	return exchange.Frame{Data: make([]byte, 8<<10)}, nil
}
func (b *endless) Ready() bool   { return true }
func (b *endless) Ended() bool   { return false }
func (b *endless) Close(_ error) {}

// breakable is a connection on which nothing can be written any more once it is
// broken.
type breakable struct {
	net.Conn
	broken atomic.Bool
}

func (b *breakable) Write(p []byte) (int, error) {
	if b.broken.Load() {
		return 0, syscall.EPIPE
	}
	return b.Conn.Write(p)
}

// TestResponseBehindAFailedWrite: a server that answers early and closes the
// connection makes our writes fail, perhaps before its response was read. The
// response is whole, nothing new is sent there, and if there is none that does not
// take long.
func TestResponseBehindAFailedWrite(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			bc := &breakable{Conn: ours}
			told := make(chan struct{})
			c := NewClientConn(bc, Options{Draining: func() { close(told) }})
			io.ReadFull(theirs, make([]byte, len(Preface)))
			p := newPeer(t, theirs, true)
			p.take()
			p.fr.WriteSettings()
			p.take()
			h := request("POST")
			h.ContentLength = -1
			got := send(c, nil, h, &slowBody{after: time.Second})
			synctest.Wait()
			bc.broken.Store(true)
			<-told
			synctest.Wait()
			if _, err := c.RoundTrip(nil, request("GET"), exchange.Empty); !exchange.Unsent(err) {
				t.Errorf("another request: %v", err)
			}
			began := time.Now()
			if answers {
				p.headers(1, false, ":status", "413")
				p.fr.WriteData(1, true, []byte("too much"))
				theirs.Close()
			}
			r := <-got
			if answers && (r.status != 413 || r.body != "too much" || r.err != nil) || !answers && !errors.Is(r.err, syscall.EPIPE) {
				t.Errorf("answers %v: got %+v", answers, r)
			}
			if took := time.Since(began); took > stopTimeout {
				t.Errorf("it took %v", took)
			}
			c.Wait()
			theirs.Close()
			<-p.stop
		})
	}
}
