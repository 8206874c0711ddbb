package h2

import (
	"encoding/binary"
	"fmt"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Preface is what a client's connection begins with.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	headerLen        = 9
	defaultWindow    = 65535
	maxWindow        = 1<<31 - 1
	defaultFrameSize = 16384
)

// Frame types.
const (
	frameData = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

// Flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings.
const (
	settingTableSize     = 1
	settingPush          = 2
	settingMaxStreams    = 3
	settingWindow        = 4
	settingFrameSize     = 5
	settingMaxHeaderList = 6
)

// Error codes (RFC 9113, section 7), besides those of package exchange.
const (
	codeNo          = exchange.CodeNo
	codeProtocol    = exchange.CodeProtocol
	codeInternal    = exchange.CodeInternal
	codeFlow        = 0x3
	codeClosed      = 0x5
	codeFrameSize   = 0x6
	codeRefused     = exchange.CodeRefusedStream
	codeCancel      = exchange.CodeCancel
	codeCompression = 0x9
	codeCalm        = exchange.CodeEnhanceYourCalm
)

// ConnError ends a connection: the peer broke the protocol, or says that we did.
type ConnError struct {
	Code uint32
	// Remote says that the peer sent it in GOAWAY.
	Remote bool
	Text   string
}

// Error tells code and reason.
func (e *ConnError) Error() string {
	r := exchange.ResetError{Code: e.Code}
	if e.Remote {
		return fmt.Sprintf("http/2: peer ended the connection: %s %s", r.CodeName(), e.Text)
	}
	return fmt.Sprintf("http/2: %s: %s", r.CodeName(), e.Text)
}

func connError(code uint32, text string) error { return &ConnError{Code: code, Text: text} }

// header is a frame header.
type header struct {
	length uint32
	kind   uint8
	flags  uint8
	stream uint32
}

func parseHeader(b []byte) header {
	_ = b[8]
	return header{
		length: uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		kind:   b[3],
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}
}

// put writes a frame header to b.
func (h header) put(b []byte) {
	_ = b[8]
	b[0], b[1], b[2] = byte(h.length>>16), byte(h.length>>8), byte(h.length)
	b[3], b[4] = h.kind, h.flags
	binary.BigEndian.PutUint32(b[5:], h.stream)
}

// unpad cuts the padding off a payload.
func unpad(flags uint8, p []byte) ([]byte, error) {
	if flags&flagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 {
		return nil, connError(codeFrameSize, "padded frame without pad length")
	}
	n := int(p[0])
	if n >= len(p) {
		return nil, connError(codeProtocol, "padding is longer than the frame")
	}
	return p[1 : len(p)-n], nil
}
