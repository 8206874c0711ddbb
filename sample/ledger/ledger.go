// Package ledger is the shop's books: a TCP service in which the server speaks
// first, as mail and database servers do. Such a protocol cannot be detected
// by its first client bytes, so its port has to be marked opaque in the mesh.
//
// The protocol is lines ended by LF:
//
//	server: LEDGER 1 <pod>
//	client: BOOK <cents>
//	server: OK <number> | ERR <reason>
//	client: QUIT
package ledger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// greeting opens every connection.
const greeting = "LEDGER 1 "

// idleLimit is how long a client may say nothing.
const idleLimit = 5 * time.Minute

// Server keeps the books in memory. The zero value is ready.
type Server struct {
	Pod     string
	entries atomic.Uint64
}

// Serve accepts connections until ctx ends, then waits for those open, each of
// which ends with the command it is at.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	var open sync.WaitGroup
	defer open.Wait()
	conns, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		<-time.After(grace)
		l.Close()
		cancel()
	})
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		open.Go(func() { s.converse(conns, c) })
	}
}

func (s *Server) converse(ctx context.Context, c net.Conn) {
	defer c.Close()
	// An end of service unblocks the read below; a command being answered
	// still gets its answer.
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })()
	if _, err := fmt.Fprintf(c, "%s%s\n", greeting, s.Pod); err != nil {
		return
	}
	in := bufio.NewReader(c)
	for ctx.Err() == nil {
		c.SetReadDeadline(time.Now().Add(idleLimit))
		if ctx.Err() != nil {
			return
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "BOOK":
			if n, err := strconv.ParseInt(arg, 10, 64); err != nil || n <= 0 {
				fmt.Fprintf(c, "ERR bad amount %q\n", arg)
				continue
			}
			fmt.Fprintf(c, "OK %d\n", s.entries.Add(1))
		case "QUIT":
			return
		default:
			fmt.Fprintf(c, "ERR unknown command %q\n", verb)
		}
	}
}

// Client books entries over connections that it keeps and reuses. The zero
// value with an address is ready; it is safe for concurrent use.
type Client struct {
	Addr string

	mu   sync.Mutex
	idle []*session // guarded by mu
}

type session struct {
	net.Conn
	in *bufio.Reader
}

// Book enters an amount in cents and returns its number in the books. An error
// may leave it unknown whether the entry was made.
func (c *Client) Book(ctx context.Context, cents uint32) (uint64, error) {
	s, err := c.session(ctx)
	if err != nil {
		return 0, fmt.Errorf("ledger %s: %w", c.Addr, err)
	}
	if d, ok := ctx.Deadline(); ok {
		s.SetDeadline(d)
	} else {
		s.SetDeadline(time.Time{})
	}
	n, err := s.book(cents)
	if err != nil {
		s.Close()
		return 0, fmt.Errorf("ledger %s: %w", c.Addr, err)
	}
	c.mu.Lock()
	c.idle = append(c.idle, s)
	c.mu.Unlock()
	return n, nil
}

// Close ends all idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, s := range idle {
		s.Close()
	}
}

// session takes an idle connection that is still open, or dials one and waits
// for the greeting.
func (c *Client) session(ctx context.Context) (*session, error) {
	for {
		c.mu.Lock()
		n := len(c.idle)
		if n == 0 {
			c.mu.Unlock()
			break
		}
		s := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		if s.open() {
			return s, nil
		}
		s.Close()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	if t, ok := ctx.Deadline(); ok {
		conn.SetDeadline(t)
	}
	s := &session{conn, bufio.NewReader(conn)}
	line, err := s.in.ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	if !strings.HasPrefix(line, greeting) {
		conn.Close()
		return nil, fmt.Errorf("not a ledger: it greets with %q", strings.TrimSpace(line))
	}
	return s, nil
}

// open reports whether the server has not closed an idle connection.
func (s *session) open() bool {
	if s.in.Buffered() > 0 {
		return false
	}
	s.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := s.in.Peek(1)
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (s *session) book(cents uint32) (uint64, error) {
	if _, err := fmt.Fprintf(s, "BOOK %d\n", cents); err != nil {
		return 0, err
	}
	line, err := s.in.ReadString('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, err
	}
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verb != "OK" {
		return 0, fmt.Errorf("refused: %s", rest)
	}
	return strconv.ParseUint(rest, 10, 64)
}
