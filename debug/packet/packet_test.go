package packet

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/golden"
)

// TestLines reads the packets of testdata/*.txt and compares how they are shown. A packet is a line of an ethernet type, or
// of "tcp" or "udp" for a payload in a packet that is made around it, and the bytes: hexadecimal digits, or a Go string. The
// line after it, indented, is what is shown. Lines with # are comments.
func TestLines(t *testing.T) {
	golden.Files(t, "testdata", ".txt", func(t *testing.T, text string) string {
		var out strings.Builder
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "  ") {
				continue // what was shown when it was last written
			}
			out.WriteString(line)
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			kind, content, _ := strings.Cut(line, " ")
			data, err := decode(content)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			var p Packet
			switch kind {
			case "tcp":
				p = Decode(IPv4, tcp(data), len(data)+40)
			case "udp":
				p = Decode(IPv6, udp(data), len(data)+48)
			default:
				n, err := strconv.ParseUint(kind, 0, 16)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				p = Decode(uint16(n), data, len(data))
			}
			fmt.Fprintf(&out, "  %s\n", p)
		}
		return out.String()
	})
}

func decode(content string) ([]byte, error) {
	if strings.HasPrefix(content, `"`) {
		s, err := strconv.Unquote(content)
		return []byte(s), err
	}
	return hex.DecodeString(strings.ReplaceAll(content, " ", ""))
}

// tcp is a segment from 10.0.0.1:40000 to 10.0.0.2:80.
func tcp(payload []byte) []byte {
	total := 40 + len(payload)
	head := []byte{0x45, 0, byte(total >> 8), byte(total), 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
		0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, PSH | ACK, 1, 0, 0, 0, 0, 0}
	return append(head, payload...)
}

// udp is a datagram from [fd00::1]:40000 to [fd00::2]:53.
func udp(payload []byte) []byte {
	n := 8 + len(payload)
	head := []byte{0x60, 0, 0, 0, byte(n >> 8), byte(n), 17, 64,
		0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
		0x9c, 0x40, 0, 53, byte(n >> 8), byte(n), 0, 0}
	return append(head, payload...)
}

// FuzzDecode: whatever a stranger sends, a line comes out of it.
func FuzzDecode(f *testing.F) {
	f.Add(uint16(IPv4), tcp([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
	f.Add(uint16(IPv4), tcp([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3}))
	f.Add(uint16(IPv4), tcp([]byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")))
	f.Add(uint16(IPv6), udp([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")))
	f.Fuzz(func(t *testing.T, etherType uint16, data []byte) {
		line := Decode(etherType, data, len(data)).String()
		if line == "" || strings.ContainsAny(line, "\n\r\x1b") {
			t.Errorf("shown as %q", line)
		}
	})
}
