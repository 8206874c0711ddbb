package kubeapi

import (
	"net"
	"sync"
	"testing"
)

// Link is the network between a controller and the API server, which a test can let fail. It imitates a node that loses its
// way to the control plane's nodes, and lets a test change things that the controller does not see happen.
type Link struct {
	target string
	lis    net.Listener
	wait   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[net.Conn]struct{}
	// flow is closed while bytes pass; frozen is set while they do not.
	flow   chan struct{}
	frozen bool
}

// NewLink returns a link to an address, which lasts as long as the test.
func NewLink(tb testing.TB, target string) *Link {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Link{target: target, lis: lis, conns: map[net.Conn]struct{}{}, flow: make(chan struct{})}
	close(l.flow)
	l.wait.Go(l.accept)
	tb.Cleanup(func() {
		lis.Close()
		l.Thaw()
		l.Cut()
		l.wait.Wait()
	})
	return l
}

// Address is where the controller connects to.
func (l *Link) Address() string { return l.lis.Addr().String() }

// Cut ends all connections and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		c.Close()
	}
}

// Restore undoes Cut.
func (l *Link) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Freeze loses everything that is sent and tells nobody, as a firewall does that has forgotten a connection.
func (l *Link) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.frozen, l.flow = true, make(chan struct{})
	}
}

// Thaw undoes Freeze for new connections; those of before stay lost.
func (l *Link) Thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		return
	}
	l.frozen = false
	close(l.flow)
	for c := range l.conns {
		c.Close()
	}
}

func (l *Link) accept() {
	for {
		conn, err := l.lis.Accept()
		if err != nil {
			return
		}
		l.wait.Go(func() { l.carry(conn) })
	}
}

// add takes a connection in, unless the link is cut.
func (l *Link) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) remove(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *Link) carry(client net.Conn) {
	defer l.remove(client)
	if !l.add(client) {
		return
	}
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer l.remove(server)
	if !l.add(server) {
		return
	}
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		// The end of one direction is taken for the end of both: TLS has no half.
		defer to.Close()
		defer from.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			l.mu.Lock()
			flow := l.flow
			l.mu.Unlock()
			<-flow
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() { pass(server, client) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}
