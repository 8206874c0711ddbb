package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// http1 is a client connection that has one request in flight at a time.
type http1 struct {
	request []byte
	began   time.Time
	busy    bool
	// body is what is left of the body of the response, once headed.
	body   int
	headed bool
	head   []byte
}

func newHTTP1(o *Options) *http1 {
	var b strings.Builder
	method := "GET"
	if o.Body > 0 {
		method = "POST"
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n", method, o.Path, o.Authority)
	if o.Body > 0 {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", o.Body)
	}
	b.WriteString("\r\n")
	b.WriteString(strings.Repeat("x", o.Body))
	return &http1{request: []byte(b.String())}
}

func (c *http1) start([]byte) []byte { return nil }
func (c *http1) room() int {
	if c.busy {
		return 0
	}
	return 1
}

func (c *http1) begin(out []byte, at time.Time) []byte {
	c.busy, c.began = true, at
	return append(out, c.request...)
}

var crlf2 = []byte("\r\n\r\n")

// read takes what arrived. A head that is split over reads is put together in
// c.head, which in practice stays unused.
func (c *http1) read(in, out []byte, done func(time.Time)) ([]byte, error) {
	for len(in) > 0 {
		if !c.busy {
			return out, errors.New("the server sent more than the response")
		}
		if !c.headed {
			head := in
			if len(c.head) > 0 {
				c.head = append(c.head, in...)
				head = c.head
			}
			end := bytes.Index(head, crlf2)
			if end < 0 {
				if len(c.head) == 0 {
					c.head = append(c.head, in...)
				}
				return out, nil
			}
			n, err := contentLength(head[:end+2])
			if err != nil {
				return out, err
			}
			c.headed, c.body = true, n
			in = in[len(in)-(len(head)-end-4):]
			c.head = c.head[:0]
		}
		n := min(c.body, len(in))
		c.body, in = c.body-n, in[n:]
		if c.body == 0 {
			c.busy, c.headed = false, false
			done(c.began)
		}
	}
	return out, nil
}

var lengthName = []byte("\r\ncontent-length: ")

// contentLength checks that a head is that of a 200 response, and finds the
// length of its body.
func contentLength(head []byte) (int, error) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return 0, fmt.Errorf("the response is %q", line)
	}
	for rest := head; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 || len(rest) < i+len(lengthName) {
			return 0, fmt.Errorf("no content-length in %q", head)
		}
		rest = rest[i:]
		if bytes.EqualFold(rest[:len(lengthName)], lengthName) {
			digits, _, _ := bytes.Cut(rest[len(lengthName):], []byte("\r"))
			return strconv.Atoi(string(digits))
		}
		rest = rest[1:]
	}
}
