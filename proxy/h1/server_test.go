package h1

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

func TestWatcherCancelsForGoneClients(t *testing.T) {
	ln, err := netx.Listen(netx.AddrPort(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}), netx.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	clk := clock.NewManual(time.Unix(0, 0))
	serving, cancelled := make(chan struct{}), make(chan error, 1)
	done := make(chan error)
	go func() {
		done <- Serve(conn, exchange.HandlerFunc(func(x *exchange.Exchange) {
			x.Bind(func(err error) { cancelled <- err })
			close(serving)
			<-cancelled
			x.Bind(nil)
		}), ServerOptions{Watcher: NewWatcher(clk, time.Second)})
	}()
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-serving
	clk.Advance(time.Second)
	select {
	case <-cancelled:
		t.Error("cancelled while the client is there")
	default:
	}
	client.Close()
	clk.Advance(time.Second)
	<-done
}

// withConn runs a server against a script, in virtual time.
func withConn(t *testing.T, o ServerOptions, h exchange.HandlerFunc, script func(s *Server, client net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := faultconn.Pipe(64 << 10)
		s := NewServer(ours, h, o)
		done := make(chan struct{})
		go func() { s.Serve(); close(done) }()
		synctest.Wait()
		script(s, theirs)
		theirs.Close()
		<-done
	})
}

func answer(x *exchange.Exchange) {
	h := exchange.ResponseHead{Status: 200, ContentLength: 2}
	x.Respond(&h, &exchange.Bytes{Data: []byte("ok")})
}

// read returns what comes until the end of the connection or a minute of
// silence.
func read(c net.Conn) string {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := io.ReadAll(c)
	end := "|closed"
	if err != nil {
		end = "|open"
	}
	return show(string(b) + end)
}

func TestDrain(t *testing.T) {
	const req = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	withConn(t, ServerOptions{}, answer, func(s *Server, c net.Conn) {
		s.Drain()
		if got := read(c); got != "|closed\\\n" {
			t.Errorf("new connection: %q", got)
		}
	})
	withConn(t, ServerOptions{}, answer, func(s *Server, c net.Conn) {
		io.WriteString(c, req)
		synctest.Wait()
		s.Drain()
		if got := read(c); !strings.Contains(got, "ok|closed") || strings.Contains(got, "connection: close") {
			t.Errorf("idle connection: %q", got)
		}
	})
	withConn(t, ServerOptions{}, func(x *exchange.Exchange) {
		time.Sleep(time.Second)
		answer(x)
	}, func(s *Server, c net.Conn) {
		io.WriteString(c, req)
		synctest.Wait()
		s.Drain()
		if got := read(c); !strings.Contains(got, "connection: close") || !strings.Contains(got, "ok|closed") {
			t.Errorf("request in flight: %q", got)
		}
	})
}

// TestServeComesAgainForThoseWhoWait: a connection is served anew after its first
// request, and after one that it has waited for, but not between requests that
// follow each other.
func TestServeComesAgainForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := faultconn.Pipe(64 << 10)
		w := NewWatcher(clock.System, time.Second)
		s := NewServer(ours, exchange.HandlerFunc(answer), ServerOptions{Again: true, Watcher: w})
		done := make(chan error, 1)
		again := 0
		go func() {
			for {
				err := s.Serve()
				if err != ErrAgain {
					done <- err
					return
				}
				again++
			}
		}()
		ask := func(want int) {
			t.Helper()
			io.WriteString(theirs, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			b := make([]byte, 1<<10)
			n, err := theirs.Read(b)
			if err != nil || !strings.HasSuffix(string(b[:n]), "ok") {
				t.Fatalf("got %q, %v", b[:n], err)
			}
			synctest.Wait()
			if again != want {
				t.Errorf("served anew %d times, want %d", again, want)
			}
		}
		ask(1)
		ask(1)
		ask(1)
		time.Sleep(1500 * time.Millisecond)
		ask(2)
		ask(2)
		// A request that was sent with another one is not waited for.
		time.Sleep(1500 * time.Millisecond)
		io.WriteString(theirs, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3))
		synctest.Wait()
		if again != 3 {
			t.Errorf("after requests behind each other: served anew %d times, want 3", again)
		}
		s.Drain()
		if got := read(theirs); strings.Count(got, "ok") != 3 || !strings.HasSuffix(got, "|closed\\\n") {
			t.Errorf("after the drain: %q", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		theirs.Close()
	})
}

func TestTimeouts(t *testing.T) {
	o := ServerOptions{HeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second}
	withConn(t, o, answer, func(s *Server, c net.Conn) {
		start := time.Now()
		read(c)
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("idle connection was closed after %v", d)
		}
	})
	withConn(t, o, answer, func(s *Server, c net.Conn) {
		// A byte now and then does not help.
		start := time.Now()
		written := make(chan struct{})
		go func() {
			defer close(written)
			for _, b := range []byte("GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaa") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		got := read(c)
		if d := time.Since(start); d > 11*time.Second || !strings.HasPrefix(got, "HTTP/1.1 408 ") {
			t.Errorf("slow head: after %v %q", d, got)
		}
		c.Close()
		<-written
	})
	withConn(t, o, func(x *exchange.Exchange) {
		time.Sleep(time.Hour) // neither is about the handler
		answer(x)
	}, func(s *Server, c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(2 * time.Hour))
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "200 OK") {
			t.Errorf("slow handler: %q, %v", b, err)
		}
	})
}

// TestRefusedUpload: who is refused while he sends much can send on until he has
// seen the answer, but not for long.
func TestRefusedUpload(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
	withConn(t, ServerOptions{}, answer, func(s *Server, c net.Conn) {
		io.WriteString(c, head)
		if n, err := c.Write(make([]byte, 3000000)); err != nil {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
		if got := read(c); !strings.Contains(got, "connection: close") || !strings.Contains(got, "ok|closed") {
			t.Errorf("got %q", got)
		}
	})
	withConn(t, ServerOptions{}, answer, func(s *Server, c net.Conn) {
		// One that stands still for a while has not seen it yet.
		io.WriteString(c, head)
		for n := range 2 {
			if _, err := c.Write(make([]byte, 1500000)); err != nil {
				t.Errorf("cut in part %d: %v", n, err)
			}
			time.Sleep(3 * time.Second)
		}
		if got := read(c); !strings.Contains(got, "ok|closed") {
			t.Errorf("got %q", got)
		}
	})
	withConn(t, ServerOptions{}, answer, func(s *Server, c net.Conn) {
		start := time.Now()
		io.WriteString(c, head)
		for {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("was listened to for %s", d)
		}
	})
}

// TestUploadAnsweredEarly: a connection that was not said to close goes on after
// the rest of a long upload.
func TestUploadAnsweredEarly(t *testing.T) {
	early := func(x *exchange.Exchange) {
		if x.Body != exchange.Empty {
			// Begun on, so that it is not known to be unwanted.
			if _, err := x.Body.Next(); err != nil {
				t.Error(err)
			}
		}
		answer(x)
	}
	withConn(t, ServerOptions{}, early, func(s *Server, c net.Conn) {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
		if n, err := c.Write(make([]byte, 3000000)); err != nil {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got := read(c)
		if first, second, _ := strings.Cut(got, "ok"); strings.Contains(first, "connection: close") || !strings.Contains(second, "ok|closed") {
			t.Errorf("got %q", got)
		}
	})
}

// TestTunnel leaves HTTP for an echo, and half-closes.
func TestTunnel(t *testing.T) {
	for _, tc := range []struct{ name, req, resp, want string }{
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly ",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 "},
		{"connect", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nearly ",
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\ndate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				appConn, upstream := faultconn.Pipe(64 << 10)
				app := make(chan struct{})
				go func() {
					defer close(app)
					b := make([]byte, 4096)
					n, _ := appConn.Read(b) // the request
					if !strings.Contains(string(b[:n]), "\r\n\r\n") {
						t.Errorf("application got %q", b[:n])
					}
					io.WriteString(appConn, tc.resp)
					io.Copy(appConn, appConn)
					io.WriteString(appConn, "bye")
					appConn.Close()
				}()
				h := exchange.HandlerFunc(func(x *exchange.Exchange) {
					c := NewConn(upstream, ClientOptions{})
					resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
					if err != nil {
						t.Error(err)
						return
					}
					if err := x.Tunnel(&resp.Head, resp.Upgraded); err != nil {
						t.Error(err)
					}
					resp.Close()
				})
				ours, theirs := faultconn.Pipe(64 << 10)
				s := NewServer(ours, h, ServerOptions{})
				done := make(chan error)
				go func() { done <- s.Serve() }()
				io.WriteString(theirs, tc.req)
				synctest.Wait()
				s.Drain() // does not touch tunnels
				io.WriteString(theirs, "late")
				netx.CloseWrite(theirs)
				got := read(theirs)
				if !strings.HasPrefix(got, tc.want) || !strings.Contains(got, "early latebye|closed") || strings.Contains(got, "Content-Length") {
					t.Errorf("client got %q", got)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				<-app
			})
		})
	}
}
