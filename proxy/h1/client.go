package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// ClientOptions configure a client connection.
type ClientOptions struct {
	// Released is called at the end of each exchange that did not upgrade,
	// on the goroutine that closed the response or got the error. reusable
	// says whether the connection can take another request; if not, it was
	// closed.
	Released func(c *Conn, reusable bool)
}

// Conn is a connection to a server. It does one exchange at a time: RoundTrip
// may be called again once the response before was closed.
type Conn struct {
	conn net.Conn
	o    ClientOptions

	rd   reader
	w    writer
	p    parser
	body clientBody
	resp exchange.Response

	canceler *exchange.Canceler
	cancelFn func(error)
	pumpFn   func()
	// req is the request body while it is sent; pumped is sent to when the
	// goroutine that sends it has ended, which pumping says there is.
	req     exchange.Body
	kind    int
	left    int64
	pumping bool
	// first, if hasFirst, was taken from req and is to be sent first by pump.
	first    exchange.Frame
	hasFirst bool
	pumped   chan struct{}
	reqErr   error       // of sending; owned by whoever sends
	sent     bool        // the request was sent to its end; likewise
	timer    *time.Timer // of sentSoon

	keep    bool // the response allows reuse
	used    int  // exchanges done
	noReply bool // the connection ended before the first byte of a response

	// mu guards cause.
	mu    sync.Mutex
	cause error
}

var _ exchange.Client = (*Conn)(nil)

// NewConn makes a client of conn, which it owns from now on.
func NewConn(conn net.Conn, o ClientOptions) *Conn {
	c := &Conn{conn: conn, o: o, pumped: make(chan struct{}, 1)}
	c.rd.conn, c.w.conn = conn, conn
	c.cancelFn = c.abort
	c.pumpFn = c.pump
	c.body.c = c
	c.resp.Release = c.release
	return c
}

// NetConn returns the connection below, for metrics and tests.
func (c *Conn) NetConn() net.Conn { return c.conn }

// Close closes the connection. It must not be called during an exchange.
func (c *Conn) Close() error {
	c.rd.release()
	return c.conn.Close()
}

// Exchanges returns how many exchanges the connection has done.
func (c *Conn) Exchanges() int { return c.used }

// NoReply reports whether the exchange that just failed did so because the
// server ended the connection without a byte of response: with a connection
// that was idle before that usually means that both sides acted at once.
func (c *Conn) NoReply() bool { return c.noReply }

// abort ends the exchange from another goroutine.
func (c *Conn) abort(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	// Not Close, which may block for TLS.
	c.conn.SetDeadline(past)
}

// aborted returns the cause of abort, or err if there was none.
func (c *Conn) aborted(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	return err
}

// inline is how much of a request body is sent before the response is looked
// at. It fits into socket buffers: more could block for ever against a server
// that answers early and stops reading.
const inline = 16 << 10

// RoundTrip implements exchange.Client.
func (c *Conn) RoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	c.w.any, c.noReply, c.keep = false, false, false
	c.reqErr, c.sent, c.pumping = nil, false, false
	c.first, c.hasFirst = exchange.Frame{}, false
	c.canceler = cn
	if cn != nil {
		if err := cn.Bind(c.cancelFn); err != nil {
			c.canceler = nil
			body.Close(err)
			c.finish(true) // nothing was done with it
			return nil, err
		}
	}
	c.used++
	c.writeHead(head, body)
	if body.Ended() {
		c.sent = true
		if err := c.w.flush(); err != nil {
			return nil, c.fail(body, err, !c.w.any)
		}
	} else {
		c.req = body
		taken, n := false, 0
		for !c.sent && c.reqErr == nil && body.Ready() {
			taken = true
			var f exchange.Frame
			if f, c.reqErr = body.Next(); c.reqErr != nil {
				break
			}
			if n += len(f.Data); n > inline {
				c.first, c.hasFirst = f, true
				break
			}
			c.sent, c.reqErr = f.End, writeFrame(&c.w, c.kind, &c.left, f)
		}
		if c.reqErr != nil && c.w.err == nil {
			// The client's body failed: there is no point in going on.
			return nil, c.fail(body, c.reqErr, false)
		}
		if err := c.w.flush(); err != nil && !taken {
			return nil, c.fail(body, err, !c.w.any)
		}
		// If writing failed with part of the body sent, the server may
		// have answered before it closed.
		if !c.sent && c.w.err == nil {
			c.pumping = true
			go c.pumpFn()
		}
	}

	h := &c.resp.Head
	for n := 0; ; n++ {
		if n > maxInformational {
			return nil, c.fail(body, errInformational, false)
		}
		c.p.response(h)
		if err := c.rd.readHead(&c.p, nil); err != nil {
			if !c.pumping && c.w.err != nil {
				err = c.w.err
			}
			c.noReply = h.Status == 0 && c.rd.r == c.rd.w && !isProtocol(err)
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("connection closed before message completed: %w", err)
			}
			return nil, c.fail(body, err, false)
		}
		if h.Status >= 200 || h.Status == 101 {
			break
		}
	}
	isConnect := string(head.Method) == "CONNECT"
	switch {
	case h.Status == 101 && (!head.Upgrade || isConnect):
		return nil, c.fail(body, errUpgradeUnasked, false)
	case h.Status == 101, isConnect && h.Status/100 == 2:
		return c.upgraded()
	}
	fr := &c.p.fr
	c.keep = !fr.close && (h.Version == exchange.HTTP11 || fr.keepAlive) &&
		(head.Version != exchange.HTTP10 || fr.keepAlive)
	c.resp.Upgraded = nil
	switch {
	case string(head.Method) == "HEAD", h.Status == 204, h.Status == 304:
		c.resp.Body = exchange.Empty
	case fr.chunked:
		h.ContentLength = -1
		c.body.begin(byChunks, 0)
	case fr.length == 0:
		c.resp.Body = exchange.Empty
	case fr.length > 0:
		c.body.begin(byLength, fr.length)
	default:
		c.keep = false
		c.body.begin(byEOF, 0)
	}
	return &c.resp, nil
}

// maxInformational is how many informational responses may come before a response: a
// server that has nothing else to say would keep its client waiting, and the proxy
// busy, for ever. One that tells that it is at work may do so for hours.
const maxInformational = 1000

func isProtocol(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

// upgraded hands the connection over.
func (c *Conn) upgraded() (*exchange.Response, error) {
	if c.pumping {
		// A CONNECT or Upgrade request with an unfinished body: what it
		// would mean from here on nobody knows.
		return nil, c.fail(c.req, errUpgradeUnasked, false)
	}
	if c.canceler != nil {
		c.canceler.Bind(nil)
		c.canceler = nil
	}
	// The head stays in the read buffer, which is handed over with the bytes
	// behind it; so the response gets a copy.
	h := &c.resp.Head
	for i := range h.List {
		f := &h.List[i]
		f.Name, f.Value = h.KeepBytes(f.Name), h.KeepBytes(f.Value)
	}
	c.resp.Body = exchange.Empty
	c.resp.Upgraded = c.rd.unread()
	c.conn = nil
	return &c.resp, nil
}

// fail ends an exchange that got no response. unsent says that no byte of the
// request left and none of its body was read.
func (c *Conn) fail(body exchange.Body, err error, unsent bool) error {
	err = c.aborted(err)
	c.stopSending(err)
	if unsent {
		err = &exchange.UnsentError{Err: err}
	} else if !body.Ended() {
		body.Close(err)
	}
	c.finish(false)
	return err
}

// stopSending waits for the sending goroutine, after making it end.
func (c *Conn) stopSending(cause error) {
	if !c.pumping {
		return
	}
	select {
	case <-c.pumped:
	default:
		c.conn.SetDeadline(past)
		c.req.Close(cause)
		<-c.pumped
	}
	c.pumping = false
}

// pump sends the rest of the request's body, on its own goroutine.
func (c *Conn) pump() {
	w := &c.w
	var err error
	for end := false; !end && err == nil; {
		f := c.first
		if c.hasFirst {
			c.first, c.hasFirst = exchange.Frame{}, false
		} else {
			if !c.req.Ready() {
				if err = w.flush(); err != nil {
					break
				}
			}
			if f, err = c.req.Next(); err != nil {
				break
			}
		}
		end = f.End
		err = writeFrame(w, c.kind, &c.left, f)
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		c.sent = true
	} else {
		c.reqErr = err
		if w.err == nil {
			// Not the server's doing: whoever waits for it has to know.
			w.flush()
			c.abort(err)
		}
	}
	c.pumped <- struct{}{}
}

// release ends an exchange that had a response; it is Response.Release.
func (c *Conn) release(*exchange.Response) {
	if c.conn == nil {
		c.resp.Upgraded = nil
		return
	}
	reusable := c.keep && (c.resp.Body == exchange.Empty || c.body.ended)
	if c.pumping {
		select {
		case <-c.pumped:
			c.pumping = false
		default:
			if reusable && c.sentSoon() {
				break
			}
			// The response is over and the request is not.
			reusable = false
			c.stopSending(errAnswered)
		}
	}
	reusable = reusable && c.sent && c.reqErr == nil && c.rd.r == c.rd.w
	c.finish(reusable)
}

// lastSend is how long a finished response waits for its request to be sent to
// the end. Some servers answer first and read the body afterwards, and often
// the answer is here before the goroutine that sent the last bytes runs again:
// the connection would be lost for nothing, and an HTTP/1 client could not send
// its next request before the end of this one anyway.
const lastSend = 500 * time.Millisecond

// sentSoon waits for the sending goroutine and reports whether it has ended.
func (c *Conn) sentSoon() bool {
	if c.timer == nil {
		c.timer = time.NewTimer(lastSend)
	} else {
		c.timer.Reset(lastSend)
	}
	defer c.timer.Stop()
	select {
	case <-c.pumped:
		c.pumping = false
		return true
	case <-c.timer.C:
		return false
	}
}

var errAnswered = errors.New("response ended before the request")

// finish gives everything back.
func (c *Conn) finish(reusable bool) {
	if c.canceler != nil {
		c.canceler.Bind(nil)
		c.canceler = nil
	}
	if reusable && c.aborted(nil) != nil {
		reusable = false
	}
	c.req = nil
	c.w.flush()
	c.rd.release()
	if !reusable {
		c.conn.Close()
	}
	if c.o.Released != nil {
		c.o.Released(c, reusable)
	}
}

// writeHead gathers the request head and chooses the body's framing.
func (c *Conn) writeHead(h *exchange.RequestHead, body exchange.Body) {
	w := &c.w
	w.bytes(h.Method)
	w.str(" ")
	connect := string(h.Method) == "CONNECT"
	switch {
	case connect:
		w.bytes(h.Authority)
	case h.AbsoluteForm && len(h.Authority) > 0:
		if len(h.Scheme) > 0 {
			w.bytes(h.Scheme)
		} else {
			w.str("http")
		}
		w.str("://")
		w.bytes(h.Authority)
		w.bytes(h.Path)
	case len(h.Path) == 0:
		w.str("/")
	default:
		w.bytes(h.Path)
	}
	c.kind, c.left = byLength, h.ContentLength
	hasBody := !body.Ended()
	if hasBody && h.ContentLength < 0 {
		c.kind = byChunks
	}
	if h.Version == exchange.HTTP10 && c.kind != byChunks {
		w.str(" HTTP/1.0\r\n")
	} else {
		// Also what came as HTTP/1.0 over HTTP/2, with a body of unknown length:
		// 1.0 has no chunks, and a server might take them for another request.
		w.str(" HTTP/1.1\r\n")
	}
	var framed, host bool
	for i := range h.List {
		f := &h.List[i]
		switch len(f.Name) {
		case 4:
			host = host || f.Is("host")
		case 14:
			if f.Is("content-length") {
				if c.kind != byLength || framed || h.ContentLength < 0 {
					continue
				}
				framed = true
			}
		case 17:
			if f.Is("transfer-encoding") {
				if c.kind != byChunks {
					continue
				}
				framed = true
			}
		}
		w.field(f.Name, f.Value)
	}
	if !host && h.AbsoluteForm && len(h.Authority) > 0 {
		w.field(hostName, h.Authority)
	}
	if !framed && hasBody {
		if c.kind == byChunks {
			w.str("transfer-encoding: chunked\r\n")
		} else {
			w.length(h.ContentLength)
		}
	}
	w.str("\r\n")
}

var hostName = []byte("host")

// clientBody is the response's body.
type clientBody struct {
	body
	c *Conn
}

var (
	_ exchange.Body = (*clientBody)(nil)
	_ exchange.Body = (*serverBody)(nil)
)

func (b *clientBody) begin(kind int, length int64) {
	b.start(&b.c.rd, kind, length)
	b.c.resp.Body = b
}

// Next implements exchange.Body.
func (b *clientBody) Next() (exchange.Frame, error) {
	f, err := b.body.Next()
	if err != nil {
		err = b.c.aborted(err)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("end of file before message length reached: %w", err)
		}
	}
	return f, err
}

// Close implements exchange.Body: the connection cannot be used any more.
func (b *clientBody) Close(cause error) {
	if cause == nil {
		cause = errBodyClosed
	}
	b.c.abort(cause)
}
