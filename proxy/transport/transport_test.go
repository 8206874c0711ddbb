package transport

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

func TestCount(t *testing.T) {
	reg := metric.NewRegistry(metric.Options{})
	tr := series.New(reg).Transport(series.SrcLabel)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	connect := func() (client net.Conn, counted net.Conn) {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return client, Count(netx.NewTCP(server.(*net.TCPConn)), tr)
	}
	client, counted := connect()
	_, _ = io.WriteString(client, "hello")
	b, n, err := netx.ReadLazy(counted, 10)
	if err != nil || n != 5 {
		t.Fatal(n, err)
	}
	b.Free()
	if n, ok, err := netx.WriteBoth(counted, []byte("h"), []byte("i")); n != 2 || !ok || err != nil {
		t.Errorf("the socket is hidden: %d, %v, %v", n, ok, err)
	}
	// Unread bytes would make the end a reset.
	_, _ = io.ReadFull(client, make([]byte, 2))
	client.Close()
	_, _ = io.ReadAll(counted)
	counted.Close()
	counted.Close()

	_, counted = connect()
	Failed(netx.WithPrefix(counted, nil), &net.OpError{Op: "read", Err: syscall.ECONNRESET})
	Failed(counted, errors.New("later"))
	counted.Close()

	text := string(reg.AppendText(nil))
	for _, want := range []string{
		`tcp_open_total{peer="src"} 2`, `tcp_open_connections{peer="src"} 0`, `tcp_read_bytes_total{peer="src"} 5`,
		`tcp_write_bytes_total{peer="src"} 2`, `tcp_close_total{peer="src",errno=""} 1`, `tcp_close_total{peer="src",errno="ECONNRESET"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}
