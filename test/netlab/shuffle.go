package netlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the two ends of a [Shuffler].
var (
	PodShuffledIPv4  = netip.MustParseAddr("10.78.0.2")
	PeerShuffledIPv4 = netip.MustParseAddr("10.78.0.1")
)

const (
	// overtaken is how many packets may pass one that is held back, at most.
	overtaken = 8
	// heldBack is how long a packet is held back if none comes to pass it. It is
	// well below the kernel's own wait before it sends anything again.
	heldBack = 3 * time.Millisecond
	// mtu is that of an Ethernet, so that a body takes many packets.
	mtu = 1500
)

// Shuffler is a second cable between the namespaces of a lab, on which packets
// overtake each other: one in three is held back until up to eight others have
// passed it. None is lost or changed. The kernel could do the same with a queueing
// discipline (netem), which not every kernel is built with.
type Shuffler struct {
	ends   [2]*os.File
	moved  atomic.Int64
	passed atomic.Int64
}

// Shuffle lays such a cable, which is there until the test ends. seed decides
// which packets are held back, as far as the order of their arrival lets it.
func (l *Lab) Shuffle(t testing.TB, seed uint64) *Shuffler {
	t.Helper()
	s := &Shuffler{}
	for i, end := range []struct {
		ns *Namespace
		ip netip.Addr
	}{{l.Pod, PodShuffledIPv4}, {l.Peer, PeerShuffledIPv4}} {
		f, err := end.ns.tunnel("shuffled0", end.ip)
		if err != nil {
			t.Fatalf("netlab: %s: %v", end.ns.Name, err)
		}
		s.ends[i] = f
	}
	var running sync.WaitGroup
	for i := range s.ends {
		from, to, random := s.ends[i], s.ends[1-i], rand.New(rand.NewPCG(seed, uint64(i)))
		packets := make(chan []byte)
		running.Go(func() {
			defer close(packets)
			for {
				b := make([]byte, mtu)
				n, err := from.Read(b)
				if err != nil {
					return
				}
				packets <- b[:n]
			}
		})
		running.Go(func() { s.carry(packets, to, random) })
	}
	t.Cleanup(func() {
		for _, f := range s.ends {
			f.Close()
		}
		running.Wait()
	})
	return s
}

// Moved is how many packets went through, and Passed how many of them came out
// after one that had gone in later.
func (s *Shuffler) Moved() int64 { return s.moved.Load() }

// Passed is how many packets were overtaken.
func (s *Shuffler) Passed() int64 { return s.passed.Load() }

// late is a packet that is held back.
type late struct {
	packet []byte
	// left is how many may still pass it, by is when it goes anyway.
	left   int
	by     time.Time
	passed bool
}

// carry writes packets to an end, some of them late, until there are no more.
func (s *Shuffler) carry(packets <-chan []byte, to *os.File, random *rand.Rand) {
	var held []late
	timer := time.NewTimer(heldBack)
	defer timer.Stop()
	send := func(p []byte) {
		s.moved.Add(1)
		// The end may be closed already.
		_, _ = to.Write(p)
	}
	release := func(now time.Time) {
		kept := held[:0]
		for _, h := range held {
			if h.left > 0 && now.Before(h.by) {
				kept = append(kept, h)
				continue
			}
			if h.passed {
				s.passed.Add(1)
			}
			send(h.packet)
		}
		held = kept
	}
	for {
		select {
		case p, ok := <-packets:
			if !ok {
				return
			}
			now := time.Now()
			if random.IntN(3) == 0 {
				held = append(held, late{packet: p, left: 1 + random.IntN(overtaken), by: now.Add(heldBack)})
				break
			}
			send(p)
			for i := range held {
				held[i].left--
				held[i].passed = true
			}
			release(now)
		case now := <-timer.C:
			release(now)
		}
		timer.Reset(heldBack)
	}
}

// tunnel makes a point-to-point link whose packets are read from and written to
// the file.
func (n *Namespace) tunnel(name string, ip netip.Addr) (*os.File, error) {
	var f *os.File
	err := n.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("make tunnel %s: %w", name, err), unix.Close(fd))
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(n.fd), unix.NETLINK_ROUTE)
	if err == nil {
		defer h.Close()
		err = addAddr(h, name, netip.PrefixFrom(ip, 24))
	}
	var link netlink.Link
	if err == nil {
		link, err = h.LinkByName(name)
	}
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
