package sniff

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// script is what a client does: strings are sent, durations waited.
func script(c net.Conn, steps ...any) {
	for _, s := range steps {
		switch s := s.(type) {
		case string:
			_, _ = io.WriteString(c, s)
		case time.Duration:
			time.Sleep(s)
		}
	}
	c.Close()
}

func TestHTTP(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []any
		want  detect.Protocol
		err   error
		after time.Duration
		rest  string
	}{
		{"request", []any{"GET / HTTP/1.1\r\n\r\n"}, detect.HTTP1, nil, 0, "GET / HTTP/1.1\r\n\r\n"},
		{"in tiny segments", []any{"GE", time.Second, "T / HTTP/1.1\r\n", "\r\n"}, detect.HTTP1, nil, time.Second, "GET / HTTP/1.1\r\n\r\n"},
		{"another protocol", []any{"EHLO", time.Second, " x\r\n"}, detect.NotHTTP, nil, 0, "EHLO x\r\n"},
		{"closed", []any{time.Millisecond}, detect.NotHTTP, ErrClosed, time.Millisecond, ""},
		{"silent", []any{time.Minute, "late"}, detect.Undecided, ErrReadTimeout, 10 * time.Second, "late"},
		{"begins and stops", []any{"GET /", time.Minute, "x"}, detect.Undecided, ErrReadTimeout, 10 * time.Second, "GET /x"},
		{"begins and ends", []any{"GET /"}, detect.NotHTTP, nil, 0, "GET /"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go script(client, c.steps...)
				began := time.Now()
				conn, got, err := HTTP(server, 10*time.Second)
				if got != c.want || !errors.Is(err, c.err) || time.Since(began) != c.after {
					t.Errorf("got %v, %v after %v", got, err, time.Since(began))
				}
				if rest, _ := io.ReadAll(conn); string(rest) != c.rest {
					t.Errorf("the rest is %q", rest)
				}
				conn.Close()
			})
		})
	}
}

func TestTLS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, c := range []struct {
		name string
		run  func(net.Conn)
		want detect.Hello
		sni  string
		err  error
	}{
		{"hello", func(c net.Conn) { _ = tls.Client(c, &tls.Config{ServerName: "a.b"}).Handshake() }, detect.TLS, "a.b", nil},
		{"plain", func(c net.Conn) { script(c, "GET / HTTP/1.1\r\n\r\n") }, detect.NotTLS, "", nil},
		{"closed", func(c net.Conn) { c.Close() }, detect.NotTLS, "", nil},
		{"half a hello", func(c net.Conn) { script(c, "\x16\x03\x01\x00\x10\x01") }, detect.NotTLS, "", nil},
		{"silent", func(c net.Conn) { _, _ = io.ReadAll(c) }, detect.NotTLS, "", ErrTLSTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := net.Dial("tcp", ln.Addr().String())
				if err == nil {
					c.run(conn)
					conn.Close()
				}
			}()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_, got, sni, err := TLS(conn, 100*time.Millisecond)
			if got != c.want || sni != c.sni || !errors.Is(err, c.err) {
				t.Errorf("got %v %q, %v", got, sni, err)
			}
			conn.Close()
			<-done
		})
	}
}
