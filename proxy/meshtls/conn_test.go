package meshtls_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// writes counts the writes to a connection.
type writes struct {
	net.Conn
	n atomic.Int64
}

func (w *writes) Write(p []byte) (int, error) {
	w.n.Add(1)
	return w.Conn.Write(p)
}

// Records of a long write leave together, those of short ones at once. Here the
// connection below is no socket, so that calls can be counted: the fourth record
// needs one of its own.
func TestRecordsAreGathered(t *testing.T) {
	ca := testca.New(t)
	const name = "web.ns.serviceaccount.identity.linkerd.cluster.local"
	store := ca.Store(t, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := make(chan []byte)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := meshtls.Server(c, store.ServerConfig())
		b, _ := io.ReadAll(s)
		s.Close()
		received <- b
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := &writes{Conn: c}
	conn := meshtls.Client(w, store.ClientConfig(model.DNSTLS(model.MustIdentity(name)), false))
	if err := conn.HandshakeContext(context.Background()); err != nil {
		t.Fatal(err)
	}
	outstanding := buf.Count()
	var sent []byte
	for _, c := range []struct {
		size, calls int
	}{{1, 1}, {16 << 10, 1}, {16<<10 + 1, 1}, {48 << 10, 1}, {64 << 10, 1}, {128 << 10, 3}} {
		p := make([]byte, c.size)
		rand.Read(p)
		before := w.n.Load()
		if n, err := conn.Write(p); n != c.size || err != nil {
			t.Fatal(n, err)
		}
		if calls := int(w.n.Load() - before); calls != c.calls {
			t.Errorf("%d bytes took %d calls, want %d", c.size, calls, c.calls)
		}
		sent = append(sent, p...)
	}
	if n := outstanding(); n != 0 {
		t.Errorf("%d buffers are kept", n)
	}
	conn.CloseWrite()
	if !bytes.Equal(<-received, sent) {
		t.Error("something else arrived")
	}
	// A write that fails says so, though the library believed it was done.
	c.Close()
	if n, err := conn.Write(make([]byte, 64<<10)); err == nil {
		t.Errorf("wrote %d bytes to a closed connection", n)
	}
}

// Over sockets it is the same, and all bytes are counted.
func TestRecordsOverSockets(t *testing.T) {
	ca := testca.New(t)
	const name = "web.ns.serviceaccount.identity.linkerd.cluster.local"
	store := ca.Store(t, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := make(chan []byte)
	var read netx.Bytes
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := meshtls.Server(netx.Count(c, &read), store.ServerConfig())
		b, _ := io.ReadAll(s)
		s.Close()
		received <- b
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var written netx.Bytes
	conn := meshtls.Client(netx.Count(netx.NewTCP(c.(*net.TCPConn)), &written), store.ClientConfig(model.DNSTLS(model.MustIdentity(name)), false))
	var sent []byte
	for _, size := range []int{1, 16<<10 + 1, 64 << 10, 1 << 20, 3} {
		p := make([]byte, size)
		rand.Read(p)
		if n, err := conn.Write(p); n != size || err != nil {
			t.Fatal(n, err)
		}
		sent = append(sent, p...)
	}
	conn.CloseWrite()
	if !bytes.Equal(<-received, sent) {
		t.Error("something else arrived")
	}
	if r, w := read.Read.Load(), written.Written.Load(); r != w || w < uint64(len(sent)) {
		t.Errorf("%d bytes were written, %d read", w, r)
	}
	conn.Close()
	if n, err := conn.Write(make([]byte, 64<<10)); err == nil {
		t.Errorf("wrote %d bytes to a closed connection", n)
	}
}
