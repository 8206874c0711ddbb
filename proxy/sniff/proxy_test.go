package sniff

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestProxy(t *testing.T) {
	const header = "PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\n"
	for _, c := range []struct {
		name   string
		steps  []any
		client string
		err    error
		after  time.Duration
		rest   string
	}{
		{"a header", []any{header + "GET /"}, "1.2.3.4:56324", nil, 0, "GET /"},
		{"in pieces", []any{"PRO", time.Second, header[3:], "GET /"}, "1.2.3.4:56324", nil, time.Second, "GET /"},
		{"none", []any{"GET /"}, "invalid AddrPort", nil, 0, "GET /"},
		{"none, in pieces", []any{"P", time.Second, "OST /"}, "invalid AddrPort", nil, time.Second, "POST /"},
		{"silence", []any{time.Minute, "late"}, "invalid AddrPort", nil, 3 * time.Second, "late"},
		{"half of one", []any{"PROXY TCP4", time.Minute, "x"}, "invalid AddrPort", ErrProxyTimeout, 3 * time.Second, "x"},
		{"the beginning, then the end", []any{"PRO"}, "invalid AddrPort", nil, 0, "PRO"},
		{"closed", []any{time.Millisecond}, "invalid AddrPort", nil, time.Millisecond, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go script(client, c.steps...)
				began := time.Now()
				conn, got, err := Proxy(server)
				if got.String() != c.client || !errors.Is(err, c.err) || time.Since(began) != c.after {
					t.Errorf("got %v, %v after %v", got, err, time.Since(began))
				}
				if rest, _ := io.ReadAll(conn); string(rest) != c.rest {
					t.Errorf("the rest is %q", rest)
				}
				conn.Close()
			})
		})
	}
	client, server := net.Pipe()
	defer server.Close()
	go script(client, "PROXY TCP4 nonsense\r\n")
	if _, _, err := Proxy(server); err == nil {
		t.Error("nonsense is taken for a header")
	}
}
