package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestTheWireCarriesOnlyTLS13 captures what passes between two meshed pods from
// their first packet on.
func TestTheWireCarriesOnlyTLS13(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.shop(30)
	pods := map[netip.Addr]string{}
	note := func(app string) {
		for _, p := range w.pods("app=" + app) {
			pods[netip.MustParseAddr(p.Status.PodIP)] = app
		}
	}
	note("catalog")
	note("ledger")
	tap := capture(t)
	// Connections are kept, so a new checkout is what makes new ones.
	w.must("kubectl -n " + w.ns + " rollout restart deployment/checkout deployment/front")
	w.must("kubectl -n " + w.ns + " rollout status deployment/checkout --timeout=300s")
	w.must("kubectl -n " + w.ns + " rollout status deployment/front --timeout=300s")
	note("front")
	note("checkout")
	w.steady(200)
	flows := tap.stop()

	meshed := map[string]int{}
	for key, f := range flows {
		from, to := pods[key.src.Addr()], pods[key.dst.Addr()]
		if from == "" || to == "" || !f.fromStart {
			continue
		}
		way := from + "→" + to
		if !f.begun() {
			continue // the capture ended too soon for it, or missed a packet
		}
		switch {
		case f.opened:
			// The side that opened speaks first: a ClientHello that
			// offers TLS 1.3.
			if v, err := helloVersions(f.data, 1); err != nil || !slices.Contains(v, 0x0304) {
				t.Errorf("%s %v begins with no ClientHello for TLS 1.3: %v %x, %.60q", way, key, err, v, f.data)
				continue
			}
		default:
			if v, err := helloVersions(f.data, 2); err != nil || !slices.Equal(v, []uint16{0x0304}) {
				t.Errorf("%s %v answers with no ServerHello of TLS 1.3: %v %x, %.60q", way, key, err, v, f.data)
				continue
			}
		}
		for _, plain := range []string{"PRI * HTTP/2.0", "HTTP/1.1", "shop.v1", "LEDGER 1", "BOOK ", "lantern"} {
			if bytes.Contains(f.data, []byte(plain)) {
				t.Errorf("%s %v carries %q in the clear", way, key, plain)
			}
		}
		meshed[way]++
	}
	t.Logf("connections seen from their start: %v", meshed)
	for _, way := range []string{"front→catalog", "checkout→catalog", "checkout→ledger"} {
		if meshed[way] == 0 {
			t.Errorf("no connection %s was seen", way)
		}
	}
}

// helloVersions returns what the supported_versions extension of the first
// handshake message says: the versions offered by a ClientHello (type 1) or the
// one chosen by a ServerHello (type 2). See RFC 8446, section 4.2.1.
func helloVersions(data []byte, kind byte) ([]uint16, error) {
	if len(data) < 9 || data[0] != 22 || data[5] != kind {
		return nil, errors.New("not the handshake message expected")
	}
	b := data[9:]
	short := errors.New("cut short")
	skip := func(n int) bool {
		if len(b) < n {
			return false
		}
		b = b[n:]
		return true
	}
	vector := func(lenBytes int) bool {
		if len(b) < lenBytes {
			return false
		}
		n := 0
		for _, c := range b[:lenBytes] {
			n = n<<8 | int(c)
		}
		return skip(lenBytes + n)
	}
	if !skip(2+32) || !vector(1) { // legacy version, random; session id
		return nil, short
	}
	if kind == 1 {
		if !vector(2) || !vector(1) { // cipher suites, compression methods
			return nil, short
		}
	} else if !skip(2 + 1) {
		return nil, short
	}
	if !skip(2) {
		return nil, short
	}
	for len(b) >= 4 {
		typ, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if !skip(4) || len(b) < n {
			return nil, short
		}
		if typ == 43 {
			list := b[:n]
			if kind == 1 {
				list = list[1:]
			}
			var out []uint16
			for len(list) >= 2 {
				out = append(out, binary.BigEndian.Uint16(list))
				list = list[2:]
			}
			return out, nil
		}
		skip(n)
	}
	return nil, errors.New("no supported_versions: an older TLS")
}

// flowKey is one direction of a TCP connection.
type flowKey struct{ src, dst netip.AddrPort }

// flow is what one direction carried.
type flow struct {
	opened    bool // this side sent the SYN
	fromStart bool // the SYN or the SYN+ACK was seen
	next      uint32
	data      []byte
}

// begun reports whether the whole first record, or something that is none, was
// seen.
func (f *flow) begun() bool {
	switch {
	case len(f.data) == 0:
		return false
	case f.data[0] != 22:
		return true // not TLS, as the caller finds out
	}
	return len(f.data) >= 5 && len(f.data) >= 5+int(binary.BigEndian.Uint16(f.data[3:]))
}

// tcpTap collects TCP payloads in a network namespace.
type tcpTap struct {
	fd    int
	end   func()
	done  sync.WaitGroup
	flows map[flowKey]*flow // owned by the reader until it is done
}

// capture listens on every link of the cluster's network namespace.
func capture(t *testing.T) *tcpTap {
	t.Helper()
	name := clusterName()
	tap := &tcpTap{flows: map[flowKey]*flow{}}
	opened := make(chan error, 1)
	go func() {
		// The thread that entered the namespace is not given back.
		runtime.LockOSThread()
		ns, err := netns.GetFromName("ldc-" + name)
		if err == nil {
			err = netns.Set(ns)
		}
		if err == nil {
			// Sockets of one protocol do not see what a bridge passes on.
			tap.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_ALL)))
		}
		if err == nil {
			err = unix.SetsockoptInt(tap.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		}
		if err == nil {
			err = unix.SetsockoptTimeval(tap.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000})
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		t.Fatalf("capturing in the namespace of cluster %s: %v", name, err)
	}
	stop := make(chan struct{})
	tap.done.Go(func() {
		buf := make([]byte, 128<<10)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(tap.fd, buf, 0)
			if err == nil {
				tap.add(buf[:n])
			}
		}
	})
	var once sync.Once
	end := func() {
		once.Do(func() {
			close(stop)
			tap.done.Wait()
			unix.Close(tap.fd)
		})
	}
	t.Cleanup(end)
	tap.end = end
	return tap
}

// stop ends the capture and returns what it saw.
func (c *tcpTap) stop() map[flowKey]*flow {
	c.end()
	return c.flows
}

// add takes an IPv4 packet. Every packet is seen several times, on each link
// it passes; sequence numbers sort that out.
func (c *tcpTap) add(p []byte) {
	if len(p) < 20 || p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP {
		return
	}
	ihl, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if total > len(p) || total < ihl+20 {
		return
	}
	tcp := p[ihl:total]
	src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(tcp))
	dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(tcp[2:]))
	seq, flags, off := binary.BigEndian.Uint32(tcp[4:]), tcp[13], int(tcp[12]>>4)*4
	if off > len(tcp) {
		return
	}
	key := flowKey{src, dst}
	f := c.flows[key]
	const syn, ack = 2, 16
	if flags&syn != 0 {
		if f == nil {
			c.flows[key] = &flow{opened: flags&ack == 0, fromStart: true, next: seq + 1}
		}
		return
	}
	if f == nil {
		c.flows[key] = &flow{}
		return
	}
	if payload := tcp[off:]; f.fromStart && seq == f.next && len(payload) > 0 {
		f.next += uint32(len(payload))
		if len(f.data) < 1<<20 {
			f.data = append(f.data, payload...)
		}
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (k flowKey) String() string { return fmt.Sprintf("%s→%s", k.src, k.dst) }
