package packet

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Describe says what the payload of a packet is, empty if that cannot be told: HTTP/1 request and status lines, HTTP/2's
// preface and frames, handshakes and alerts of TLS, and DNS.
func Describe(p Packet) string {
	if len(p.Payload) == 0 {
		return ""
	}
	switch p.Protocol {
	case "tcp":
		for _, describe := range []func([]byte) string{http1, http2, tlsRecords} {
			if s := describe(p.Payload); s != "" {
				return s
			}
		}
	case "udp":
		if p.SrcPort == 53 || p.DstPort == 53 {
			return dnsMessage(p.Payload)
		}
	}
	return ""
}

// longest is how many bytes are shown of a text that a stranger sent.
const longest = 120

// clean is a stranger's text, made fit to be printed in a line.
func clean(text []byte) string {
	more := ""
	if len(text) > longest {
		text, more = text[:longest], "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, string(text)) + more
}

var version1 = []byte("HTTP/1.")

// http1 reads the first line of a request or a response. Queries are left out: they are where secrets stand.
func http1(payload []byte) string {
	line, rest, whole := bytes.Cut(payload, []byte("\r\n"))
	if bytes.HasPrefix(line, version1) {
		if len(line) >= 12 && line[8] == ' ' {
			return clean(line)
		}
		return ""
	}
	method, target, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(method) == 0 || len(method) > 20 || bytes.ContainsFunc(method, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '-' }) {
		return ""
	}
	end := ""
	if at := bytes.LastIndexByte(target, ' '); whole && at >= 0 && bytes.HasPrefix(target[at+1:], version1) {
		target, end = target[:at], string(clean(target[at:]))
	} else if whole || !bytes.HasPrefix(target, []byte("/")) {
		// A line that ends otherwise is none; one that goes on in the next packet may be.
		return ""
	}
	if at := bytes.IndexByte(target, '?'); at >= 0 {
		target = append(bytes.Clone(target[:at]), "?..."...)
	}
	s := "HTTP " + string(method) + " " + clean(target) + end
	for len(rest) > 0 {
		line, rest, whole = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !whole || !ok {
			break
		}
		if bytes.EqualFold(name, []byte("host")) {
			return s + " host=" + clean(bytes.TrimSpace(value))
		}
	}
	return s
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frameNames and the flags that each kind of frame may have: RFC 9113, section 6.
var frameNames = [...]string{"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"}

var frameFlags = [...]uint8{0x9, 0x2d, 0, 0, 0x1, 0xc, 0x1, 0, 0, 0x4}

// http2Errors are the codes of RST_STREAM and GOAWAY (RFC 9113, section 7).
var http2Errors = [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}

// http2 names the frames of a packet that begins with one. Other bytes can look like a frame: every header is checked as
// strictly as the protocol allows, and one that is wrong makes all of it something else.
func http2(payload []byte) string {
	rest, begins := bytes.CutPrefix(payload, []byte(preface))
	var names []string
	if begins {
		names = append(names, "preface")
	}
	for len(rest) >= 9 {
		length := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		kind, flags, stream := rest[3], rest[4], binary.BigEndian.Uint32(rest[5:])
		if !plausible(kind, flags, stream, length) {
			if begins {
				break
			}
			return ""
		}
		name := frameNames[kind]
		if stream != 0 {
			name += fmt.Sprintf(" %d", stream)
		}
		body := rest[9:min(len(rest), 9+length)]
		switch {
		case kind <= 1 && flags&1 != 0:
			name += " END_STREAM"
		case (kind == 4 || kind == 6) && flags&1 != 0:
			name += " ACK"
		case kind == 3 && len(body) == 4:
			name += " " + http2Error(body)
		case kind == 7 && len(body) >= 8:
			name += " " + http2Error(body[4:8])
		}
		names = append(names, name)
		rest = rest[9+len(body):]
	}
	if len(names) == 0 {
		return ""
	}
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("%d more", len(names)-6))
	}
	return "HTTP/2 " + strings.Join(names, ", ")
}

func http2Error(code []byte) string {
	n := binary.BigEndian.Uint32(code)
	if int(n) < len(http2Errors) {
		return http2Errors[n]
	}
	return fmt.Sprintf("error %#x", n)
}

func plausible(kind, flags uint8, stream uint32, length int) bool {
	if int(kind) >= len(frameNames) || flags&^frameFlags[kind] != 0 || stream>>31 != 0 || length > 1<<20 {
		return false
	}
	switch kind {
	case 2:
		return stream != 0 && length == 5
	case 3:
		return stream != 0 && length == 4
	case 4:
		return stream == 0 && length%6 == 0 && (flags&1 == 0 || length == 0)
	case 6:
		return stream == 0 && length == 8
	case 7:
		return stream == 0 && length >= 8
	case 8:
		return length == 4
	}
	return stream != 0
}

// tlsRecords names the records of TLS in a packet that begins with one (RFC 8446, section 5.1).
func tlsRecords(payload []byte) string {
	var names []string
	for len(payload) >= 5 {
		kind, length := payload[0], int(binary.BigEndian.Uint16(payload[3:]))
		if kind < 20 || kind > 23 || payload[1] != 3 || payload[2] > 4 || length == 0 || length > 16384+2048 {
			break
		}
		body := payload[5:min(len(payload), 5+length)]
		name := ""
		switch kind {
		case 20:
			name = "ChangeCipherSpec"
		case 21:
			name = "alert (encrypted)"
			if length == 2 && len(body) == 2 {
				name = "alert: " + strings.TrimPrefix(tls.AlertError(body[1]).Error(), "tls: ")
			}
		case 22:
			name = handshake(body)
		case 23:
			name = "data"
		}
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		payload = payload[5+len(body):]
	}
	if names == nil {
		return ""
	}
	return "TLS " + strings.Join(names, ", ")
}

func handshake(body []byte) string {
	if len(body) < 4 || body[1] > 1 {
		return "handshake" // encrypted, for none is that long
	}
	switch body[0] {
	case 1:
		return "ClientHello" + clientHello(body[4:])
	case 2:
		return "ServerHello"
	case 4:
		return "NewSessionTicket"
	case 11:
		return "Certificate"
	case 12:
		return "ServerKeyExchange"
	case 13:
		return "CertificateRequest"
	case 14:
		return "ServerHelloDone"
	case 15:
		return "CertificateVerify"
	case 16:
		return "ClientKeyExchange"
	}
	return "handshake"
}

// A reader takes fields off the front of bytes. What is missing reads as empty.
type reader []byte

func (r *reader) take(n int) reader {
	n = min(n, len(*r))
	field := (*r)[:n]
	*r = (*r)[n:]
	return field
}

// prefixed takes a field whose length stands before it in so many bytes.
func (r *reader) prefixed(bytes int) reader {
	n := 0
	for _, b := range r.take(bytes) {
		n = n<<8 | int(b)
	}
	return r.take(n)
}

// clientHello reads the name and the protocols that a client asks for (RFC 6066 section 3, RFC 7301 section 3.1).
func clientHello(hello reader) string {
	hello.take(2 + 32) // version, random
	hello.prefixed(1)  // session
	hello.prefixed(2)  // cipher suites
	hello.prefixed(1)  // compression
	extensions := hello.prefixed(2)
	var name string
	var protocols []string
	for len(extensions) >= 4 {
		kind := binary.BigEndian.Uint16(extensions.take(2))
		body := extensions.prefixed(2)
		switch kind {
		case 0:
			for list := body.prefixed(2); len(list) > 3; {
				kind, wanted := list.take(1)[0], int(binary.BigEndian.Uint16(list))
				value := list.prefixed(2)
				if kind != 0 {
					continue
				}
				if name = clean(value); len(value) < wanted {
					name += "…"
				}
			}
		case 16:
			for list := body.prefixed(2); len(list) > 1; {
				protocols = append(protocols, clean(list.prefixed(1)))
			}
		}
	}
	s := ""
	if name != "" {
		s += " sni=" + name
	}
	if protocols != nil {
		s += " alpn=" + strings.Join(protocols[:min(len(protocols), 8)], ",")
	}
	return s
}

func dnsMessage(payload []byte) string {
	var m dns.Msg
	if m.Unpack(payload) != nil || len(m.Question) == 0 {
		return ""
	}
	q := m.Question[0]
	s := "DNS " + dns.TypeToString[q.Qtype] + " " + clean([]byte(q.Name))
	if !m.Response {
		return s + "?"
	}
	s += " " + dns.RcodeToString[m.Rcode]
	for i, a := range m.Answer {
		if i == 4 {
			s += fmt.Sprintf(", %d more", len(m.Answer)-i)
			break
		}
		if i > 0 {
			s += ","
		}
		s += " " + clean([]byte(strings.TrimPrefix(a.String(), a.Header().String())))
	}
	return s
}
