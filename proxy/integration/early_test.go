package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"
)

// The ways in which a server that has answered early ends, or does not.
const (
	byReset     = "resets"
	byClosing   = "closes"
	byHalf      = "closes its side and reads on"
	byHalfReset = "closes its side, then resets"
	byReading   = "reads on"
	byStopping  = "reads no more"
)

// early is an application that answers POSTs with 413 once the first byte of their
// body is there, and then does something about the connection. GETs get "next".
type early struct {
	end    string
	answer []byte
	// over ends those that read no more.
	over chan struct{}
	mu   sync.Mutex
	// problems are what no proxy may send; guarded by mu.
	problems []string
}

func (e *early) problem(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.problems = append(e.problems, fmt.Sprintf(format, args...))
}

// broken reports whether an error is the end of a connection.
func broken(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

// serve takes either version.
func (e *early) serve(c net.Conn) {
	r := bufio.NewReader(c)
	if p, err := r.Peek(3); err != nil {
		return // made to see who speaks first, or not used
	} else if string(p) == "PRI" {
		e.http2(c.(*net.TCPConn), r)
	} else {
		e.http1(c.(*net.TCPConn), r)
	}
}

func (e *early) http1(c *net.TCPConn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			if !broken(err) {
				e.problem("what came was no request: %v", err)
			}
			return
		}
		if req.Method == "GET" {
			// If its side is closed, the proxy has not seen that yet, and asks again.
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
			continue
		}
		_, _ = io.ReadFull(req.Body, make([]byte, 1))
		fmt.Fprintf(c, "HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s", len(e.answer), e.answer)
		if e.ended(c) {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
	}
}

// ended does what comes after an early answer, and reports whether it was the end.
func (e *early) ended(c *net.TCPConn) bool {
	switch e.end {
	case byReset:
		_ = c.SetLinger(0)
		return true
	case byHalfReset:
		_ = c.CloseWrite()
		_ = c.SetLinger(0)
		return true
	case byClosing:
		return true
	case byHalf:
		_ = c.CloseWrite()
	case byStopping:
		<-e.over
		return true
	}
	return false
}

func (e *early) http2(c *net.TCPConn, r *bufio.Reader) {
	_, _ = r.Discard(len(xhttp2.ClientPreface))
	fr := xhttp2.NewFramer(c, r)
	fr.ReadMetaHeaders = xhpack.NewDecoder(4096, nil)
	block := newBlocks()
	respond := func(id uint32, status string, body []byte) {
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.of(":status", status), EndHeaders: true})
		for len(body) > 4096 {
			_ = fr.WriteData(id, false, body[:4096])
			body = body[4096:]
		}
		_ = fr.WriteData(id, true, body)
	}
	_ = fr.WriteSettings()
	answered := map[uint32]bool{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if !broken(err) {
				e.problem("what came was no frame: %v", err)
			}
			return
		}
		switch f := f.(type) {
		case *xhttp2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *xhttp2.PingFrame:
			if !f.IsAck() {
				_ = fr.WritePing(true, f.Data)
			}
		case *xhttp2.MetaHeadersFrame:
			if f.PseudoValue("method") == "GET" {
				respond(f.StreamID, "200", []byte("next"))
			}
		case *xhttp2.DataFrame:
			if n := uint32(len(f.Data())); n > 0 {
				_ = fr.WriteWindowUpdate(0, n)
				if !f.StreamEnded() {
					_ = fr.WriteWindowUpdate(f.StreamID, n)
				}
			}
			if answered[f.StreamID] {
				continue
			}
			answered[f.StreamID] = true
			respond(f.StreamID, "413", e.answer)
			if e.ended(c) {
				return
			}
		}
	}
}

// TestEarlyResponses: a server may answer before it has all of the request, and be
// done with the connection then. The client gets the whole answer whatever it does
// itself, and no request comes after the rest of another.
func TestEarlyResponses(t *testing.T) {
	for _, end := range []string{byReset, byClosing, byHalf, byHalfReset, byReading, byStopping} {
		for _, size := range []int{2000, 4 << 20} {
			if end == byStopping && size == 2000 {
				continue // all of it is sent, and the server has no more to do with it
			}
			for _, version := range []string{"HTTP/1", "HTTP/1 in chunks", "HTTP/2"} {
				for _, door := range []string{"inbound", "both"} {
					t.Run(fmt.Sprintf("%s/%d/%s/%s", end, size, version, door), func(t *testing.T) {
						m := newMesh(t, viaProxy)
						e := &early{end: end, answer: bytes.Repeat([]byte("answer. "), 2500), over: make(chan struct{})}
						defer close(e.over)
						m.serveTCP(e.serve)
						addr := m.inAddr
						if door == "both" {
							addr = m.outAddr
						}
						for _, atOnce := range []bool{true, false} {
							if version == "HTTP/2" && end == byStopping && !atOnce {
								continue // nothing would come of it
							}
							if version == "HTTP/2" {
								m.postHTTP2(addr, size, atOnce, e)
							} else {
								m.postHTTP1(addr, size, version != "HTTP/1", atOnce, string(e.answer))
							}
						}
						e.mu.Lock()
						defer e.mu.Unlock()
						for _, p := range e.problems {
							t.Error(p)
						}
					})
				}
			}
		}
	}
}

// postHTTP1 has a request answered early, and sends the rest of its body at once or
// once it has the response; and makes another request, if it may on the same
// connection.
func (m *mesh) postHTTP1(addr string, size int, chunked, atOnce bool, answer string) {
	m.t.Helper()
	c := m.dial(addr)
	head, body := fmt.Sprintf("Content-Length: %d", size), strings.Repeat("b", size)
	if chunked {
		head, body = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
	}
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: web\r\n"+head+"\r\n\r\n"+body[:1000])
	sent := make(chan struct{})
	rest := func() {
		_, _ = io.WriteString(c, body[1000:])
		close(sent)
	}
	if atOnce {
		go rest()
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		m.t.Fatalf("no response: %v", err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 413 || string(got) != answer {
		m.t.Fatalf("got %d with %d bytes, %v", resp.StatusCode, len(got), err)
	}
	if !atOnce {
		rest()
	}
	<-sent
	next := "none"
	if !resp.Close {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		next = said(r)
	}
	// A proxy that had to wait for long closes the connection.
	if next == "none" {
		c.Close()
		c = m.dial(addr)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		next = said(bufio.NewReader(c))
	}
	if next != "200 next" {
		m.t.Errorf("the next got %s", next)
	}
	c.Close()
}

// said reads a response, "none" if the connection ends instead.
func said(r *bufio.Reader) string {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		if broken(err) {
			return "none"
		}
		return err.Error()
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

// postHTTP2 is postHTTP1 in the other version.
func (m *mesh) postHTTP2(addr string, size int, atOnce bool, e *early) {
	m.t.Helper()
	c := clientTo(m.t.(*testing.T), addr, true)
	pr, pw := io.Pipe()
	defer pr.Close()
	have := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer pw.Close()
		_, _ = pw.Write(make([]byte, 1000))
		if !atOnce {
			<-have
		}
		_, _ = pw.Write(make([]byte, size-1000))
	}()
	resp, err := c.Post("http://web.ns.svc.cluster.local/", "text/plain", pr)
	if err != nil {
		m.t.Fatalf("no response: %v", err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 413 || !bytes.Equal(got, e.answer) {
		m.t.Fatalf("got %d with %d bytes, %v", resp.StatusCode, len(got), err)
	}
	close(have)
	pr.Close()
	<-sent
	switch e.end {
	case byStopping:
		return // it would wait for the server
	case byReading:
		if resp, body := m.get(c, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 || body != "next" {
			m.t.Errorf("the next got %d %q", resp.StatusCode, body)
		}
		return
	}
	// The connection's end was not announced: what is under way when it comes may
	// have been seen by the server, and is not sent again.
	eventually(m.t.(*testing.T), "the next is answered", func() bool {
		resp, body := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200 && body == "next"
	})
}
