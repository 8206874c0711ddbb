package xtables

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// native is the byte order of everything the kernel does not take from the wire.
var native = binary.NativeEndian

// A layout says where things are in the entries of one family. An entry is one
// rule: a fixed header, then matches, then a target.
type layout struct {
	family  rules.Family
	domain  int // of the socket that reaches the table
	level   int // of its socket options
	header  int // size of an entry's header
	address int // bytes of an address
	// Offsets in the header.
	src, dst, srcMask, dstMask int
	outInterface, outMask      int
	proto, flags               int
	targetOffset, nextOffset   int
}

var layoutIPv4 = layout{
	family: rules.IPv4, domain: unix.AF_INET, level: unix.SOL_IP,
	header: 112, address: 4,
	src: 0, dst: 4, srcMask: 8, dstMask: 12,
	outInterface: 32, outMask: 64,
	proto: 80, flags: 82,
	targetOffset: 88, nextOffset: 90,
}

var layoutIPv6 = layout{
	family: rules.IPv6, domain: unix.AF_INET6, level: unix.SOL_IPV6,
	header: 168, address: 16,
	src: 0, dst: 16, srcMask: 32, dstMask: 48,
	outInterface: 80, outMask: 112,
	proto: 128, flags: 131,
	targetOffset: 140, nextOffset: 142,
}

func layoutOf(f rules.Family) *layout {
	if f == rules.IPv6 {
		return &layoutIPv6
	}
	return &layoutIPv4
}

// Matches and targets ("extensions") begin with their size, name and revision.
const (
	extHeader   = 32
	extName     = 2
	extNameLen  = 29
	extRevision = 31
)

// Sizes and values of the standard target, whose payload is a verdict, and of
// the error target, which opens a chain with its name.
const (
	standardSize = 40
	errorSize    = 64
	errorNameLen = 30

	verdictReturn = -5

	// flagProto in an IPv6 entry says that the protocol field counts; an IPv4
	// entry has no such flag, its protocol field counts when not zero.
	flagProto = 0x01
)

// extension makes a match or a target.
func extension(name string, revision byte, data []byte) []byte {
	// The kernel wants sizes in multiples of its strictest alignment.
	size := extHeader + (len(data)+7)/8*8
	b := make([]byte, size)
	native.PutUint16(b, uint16(size))
	copy(b[extName:extName+extNameLen-1], name)
	b[extRevision] = revision
	copy(b[extHeader:], data)
	return b
}

// standardTarget makes the target that jumps or ends with a verdict.
func standardTarget(verdict int32) []byte {
	// The standard target has no name.
	return extension("", 0, native.AppendUint32(nil, uint32(verdict)))
}

// errorTarget makes the target that marks the begin of a chain.
func errorTarget(name string) []byte {
	data := make([]byte, errorNameLen)
	copy(data[:errorNameLen-1], name)
	return extension("ERROR", 0, data)
}

// newEntry puts an entry together from a header without offsets, matches and
// a target.
func (l *layout) newEntry(header []byte, matches [][]byte, target []byte) []byte {
	b := append(make([]byte, 0, 512), header...)
	for _, m := range matches {
		b = append(b, m...)
	}
	native.PutUint16(b[l.targetOffset:], uint16(len(b)))
	b = append(b, target...)
	native.PutUint16(b[l.nextOffset:], uint16(len(b)))
	return b
}

// plainEntry makes an entry that every packet meets.
func (l *layout) plainEntry(target []byte) []byte {
	return l.newEntry(make([]byte, l.header), nil, target)
}

// ruleEntry makes the entry for a rule of the plan.
func (l *layout) ruleEntry(r rules.Rule) []byte {
	h := make([]byte, l.header)
	var matches [][]byte
	m := r.Match
	if m.Src.IsValid() {
		putPrefix(h[l.src:], h[l.srcMask:], m.Src)
	}
	if m.Dst.IsValid() {
		putPrefix(h[l.dst:], h[l.dstMask:], m.Dst)
	}
	if m.OutInterface != "" {
		// The mask covers the closing zero byte, which makes the comparison
		// exact instead of by prefix.
		copy(h[l.outInterface:l.outInterface+unix.IFNAMSIZ-1], m.OutInterface)
		for i := range len(m.OutInterface) + 1 {
			h[l.outMask+i] = 0xff
		}
	}
	if m.TCP || len(m.DstPorts) > 0 {
		native.PutUint16(h[l.proto:], unix.IPPROTO_TCP)
		if l.family == rules.IPv6 {
			h[l.flags] |= flagProto
		}
	}
	if m.UID != 0 || m.GID != 0 {
		matches = append(matches, ownerMatch(m.UID, m.GID))
	}
	switch ports := m.DstPorts; {
	case len(ports) == 1:
		matches = append(matches, tcpMatch(ports[0]))
	case len(ports) > 1:
		matches = append(matches, multiportMatch(ports))
	}
	matches = append(matches, commentMatch(r.Comment))
	target := standardTarget(verdictReturn)
	if !r.Action.IsReturn() {
		target = l.redirectTarget(uint16(r.Action.RedirectTo))
	}
	return l.newEntry(h, matches, target)
}

func putPrefix(address, mask []byte, p netip.Prefix) {
	copy(address, p.Addr().AsSlice())
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
}

// ownerMatch compares the user or the group of the socket's opener.
func ownerMatch(uid, gid uint32) []byte {
	const byUID, byGID = 1, 2
	data := make([]byte, 20)
	if uid != 0 {
		native.PutUint32(data[0:], uid) // lowest
		native.PutUint32(data[4:], uid) // highest
		data[16] |= byUID
	}
	if gid != 0 {
		native.PutUint32(data[8:], gid)
		native.PutUint32(data[12:], gid)
		data[16] |= byGID
	}
	return extension("owner", 1, data)
}

// tcpMatch compares the destination port with one range.
func tcpMatch(r rules.PortRange) []byte {
	data := make([]byte, 12)
	native.PutUint16(data[2:], 0xffff) // any source port
	native.PutUint16(data[4:], r.First)
	native.PutUint16(data[6:], r.Last)
	return extension("tcp", 0, data)
}

// multiportMatch compares the destination port with up to 15 port references.
func multiportMatch(ranges []rules.PortRange) []byte {
	const byDestination = 1
	const ports, rangeFlags = 2, 32
	data := make([]byte, 48)
	data[0] = byDestination
	n := 0
	for _, r := range ranges {
		native.PutUint16(data[ports+2*n:], r.First)
		if !r.Single() {
			// The flag says that the next reference is this one's end.
			data[rangeFlags+n] = 1
			n++
			native.PutUint16(data[ports+2*n:], r.Last)
		}
		n++
	}
	data[1] = byte(n)
	return extension("multiport", 1, data)
}

func commentMatch(comment string) []byte {
	data := make([]byte, 256)
	copy(data[:255], comment)
	return extension("comment", 0, data)
}

// redirectTarget sends a connection to a port of this host.
func (l *layout) redirectTarget(port uint16) []byte {
	const portGiven = 2
	var data []byte
	if l.family == rules.IPv6 {
		data = make([]byte, 40)
		native.PutUint32(data[0:], portGiven)
		binary.BigEndian.PutUint16(data[36:], port) // lowest
		binary.BigEndian.PutUint16(data[38:], port) // highest
	} else {
		data = make([]byte, 20)
		native.PutUint32(data[0:], 1) // number of ranges
		native.PutUint32(data[4:], portGiven)
		binary.BigEndian.PutUint16(data[16:], port)
		binary.BigEndian.PutUint16(data[18:], port)
	}
	return extension("REDIRECT", 0, data)
}
