// Package packet reads what a packet says, for people: who sends to whom, and what of HTTP, TLS and DNS can be seen in it.
//
//	p := packet.Decode(packet.IPv4, data, len(data))
//	fmt.Println(p) // 10.0.0.1:40000 > 10.0.0.2:80 tcp PSH,ACK len 40  HTTP GET /cart HTTP/1.1 host=shop
//
// Each packet is read by itself: a request that begins in the middle of a packet, or a name that is cut by its end, is not
// seen. Nothing here keeps state or does I/O; all of it may be called from any goroutine. The text of packets comes from
// strangers, so what is printed of it is short and has no control characters.
package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Ethernet types that Decode knows, as IEEE 802 has them.
const (
	IPv4 = 0x0800
	ARP  = 0x0806
	IPv6 = 0x86dd
)

// Flags of TCP, in the order of their bits (RFC 9293, section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

var flagNames = [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

// A Packet is what could be read of one. It shares memory with the bytes that it was read from.
type Packet struct {
	// Protocol is "tcp", "udp", "icmp", "icmp6", "arp", or a number with what it is one of.
	Protocol string
	// Src and Dst are invalid in what is neither IP nor ARP.
	Src, Dst netip.Addr
	// SrcPort and DstPort are 0 in what has no ports, and in later fragments.
	SrcPort, DstPort uint16
	// Flags are TCP's.
	Flags uint8
	// Length is that of the payload on the wire, in bytes; what was captured of it may be less.
	Length  int
	Payload []byte
	// Note says what else there is to say, such as that the packet is cut off.
	Note string
}

// Decode reads a packet without its link header. Wire is its length on the wire, which may be more than data holds.
// It never fails: what cannot be read is told in the Note.
func Decode(etherType uint16, data []byte, wire int) Packet {
	switch etherType {
	case IPv4:
		return decode4(data, wire)
	case IPv6:
		return decode6(data, wire)
	case ARP:
		return decodeARP(data, wire)
	}
	return Packet{Protocol: fmt.Sprintf("ethertype %#04x", etherType), Length: wire, Payload: data}
}

func cut(protocol string, wire int) Packet {
	return Packet{Protocol: protocol, Length: wire, Note: "cut off in its header"}
}

func decode4(data []byte, wire int) Packet {
	if len(data) < 20 {
		return cut("ipv4", wire)
	}
	header := int(data[0]&15) * 4
	total := int(binary.BigEndian.Uint16(data[2:]))
	if total == 0 {
		total = wire // the kernel leaves it out of packets too large for the field
	}
	p := Packet{Src: netip.AddrFrom4([4]byte(data[12:16])), Dst: netip.AddrFrom4([4]byte(data[16:20])), Length: total}
	if data[0]>>4 != 4 || header < 20 || total < header {
		p.Protocol, p.Note = "ipv4", "not valid"
		return p
	}
	if header > len(data) {
		p.Protocol, p.Note = "ipv4", "cut off in its header"
		return p
	}
	offset := binary.BigEndian.Uint16(data[6:]) & 0x1fff
	p.transport(data[9], data[header:min(len(data), total)], total-header, offset != 0)
	return p
}

func decode6(data []byte, wire int) Packet {
	if len(data) < 40 {
		return cut("ipv6", wire)
	}
	p := Packet{Src: netip.AddrFrom16([16]byte(data[8:24])), Dst: netip.AddrFrom16([16]byte(data[24:40]))}
	length := int(binary.BigEndian.Uint16(data[4:]))
	if length == 0 {
		length = max(wire-40, 0)
	}
	next, rest, later := data[6], data[40:min(len(data), 40+length)], false
	for {
		var size int
		switch next {
		case 0, 43, 60: // hop by hop, routing, destination options
			if len(rest) < 8 {
				p.Protocol, p.Length, p.Note = "ipv6", length, "cut off in its header"
				return p
			}
			size = 8 + int(rest[1])*8
		case 44: // fragment
			if len(rest) < 8 {
				p.Protocol, p.Length, p.Note = "ipv6", length, "cut off in its header"
				return p
			}
			size = 8
			later = later || binary.BigEndian.Uint16(rest[2:])>>3 != 0
		default:
			p.transport(next, rest, length, later)
			return p
		}
		if size > len(rest) || size > length {
			p.Protocol, p.Length, p.Note = "ipv6", length, "cut off in its header"
			return p
		}
		next, rest, length = rest[0], rest[size:], length-size
	}
}

// transport reads what IP carries; length is that on the wire.
func (p *Packet) transport(protocol uint8, data []byte, length int, laterFragment bool) {
	p.Length, p.Payload = length, data
	switch protocol {
	case 1:
		p.Protocol = "icmp"
	case 6:
		p.Protocol = "tcp"
	case 17:
		p.Protocol = "udp"
	case 58:
		p.Protocol = "icmp6"
	default:
		p.Protocol = fmt.Sprintf("ip protocol %d", protocol)
	}
	if laterFragment {
		p.Note = "later fragment"
		return
	}
	header := 0
	switch protocol {
	case 1, 58:
		if len(data) >= 2 {
			p.Note = fmt.Sprintf("type %d code %d", data[0], data[1])
			if name := icmpNames[p.Protocol][[2]uint8{data[0], data[1]}]; name != "" {
				p.Note = name
			}
		}
		return
	case 6:
		if len(data) >= 14 {
			p.Flags = data[13]
			header = int(data[12]>>4) * 4
		}
		if header < 20 {
			header = 20
		}
	case 17:
		header = 8
	default:
		return
	}
	if len(data) >= 4 {
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	}
	if len(data) < header {
		p.Payload, p.Note = nil, "cut off in its header"
		return
	}
	p.Payload, p.Length = data[header:], length-header
}

// icmpNames are the messages that one meets when a connection fails.
var icmpNames = map[string]map[[2]uint8]string{
	"icmp": {
		{0, 0}: "echo reply", {8, 0}: "echo request", {3, 0}: "network unreachable", {3, 1}: "host unreachable",
		{3, 3}: "port unreachable", {3, 4}: "packet too big", {3, 13}: "administratively prohibited", {11, 0}: "time exceeded",
	},
	"icmp6": {
		{129, 0}: "echo reply", {128, 0}: "echo request", {1, 0}: "no route", {1, 1}: "administratively prohibited",
		{1, 3}: "address unreachable", {1, 4}: "port unreachable", {2, 0}: "packet too big", {3, 0}: "time exceeded",
		{133, 0}: "router solicitation", {134, 0}: "router advertisement", {135, 0}: "neighbor solicitation", {136, 0}: "neighbor advertisement",
	},
}

func decodeARP(data []byte, wire int) Packet {
	if len(data) < 28 {
		return cut("arp", wire)
	}
	p := Packet{Protocol: "arp", Length: wire, Src: netip.AddrFrom4([4]byte(data[14:18])), Dst: netip.AddrFrom4([4]byte(data[24:28]))}
	switch binary.BigEndian.Uint16(data[6:]) {
	case 1:
		p.Note = "who has it?"
	case 2:
		p.Note = "I have it"
	}
	return p
}

// String is the packet in one line.
func (p Packet) String() string {
	var b strings.Builder
	if p.Src.IsValid() {
		b.WriteString(endpoint(p.Src, p.SrcPort))
		b.WriteString(" > ")
		b.WriteString(endpoint(p.Dst, p.DstPort))
		b.WriteByte(' ')
	}
	b.WriteString(p.Protocol)
	if p.Protocol == "tcp" {
		b.WriteByte(' ')
		b.WriteString(p.flags())
	}
	fmt.Fprintf(&b, " len %d", p.Length)
	said := p.Note
	if said == "" {
		said = Describe(p)
	}
	if said != "" {
		b.WriteString("  ")
		b.WriteString(said)
	}
	return b.String()
}

func (p Packet) flags() string {
	var names []string
	for i, name := range flagNames {
		if p.Flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, ",")
}

func endpoint(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
