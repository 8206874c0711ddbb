// Package pcap writes packets as other programs read them: the classic capture format with nanoseconds, and Linux's second
// "cooked" header (link type 276), which says on which interface and in which direction each packet was seen.
//
//	w, err := pcap.NewWriter(out, snap)
//	err = w.Write(frame)
//
// A Writer belongs to one goroutine. It does not buffer, so that a reader at the other end of a pipe sees packets at once.
package pcap

import (
	"encoding/binary"
	"io"

	"github.com/linkerd-go/linkerd-go/debug/capture"
)

const (
	magicNanoseconds = 0xa1b23c4d
	linkTypeSLL2     = 276
	headerSLL2       = 20
)

// A Writer writes a capture.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter writes the head of a capture whose packets have at most snap bytes each.
func NewWriter(w io.Writer, snap int) (*Writer, error) {
	head := make([]byte, 24)
	binary.LittleEndian.PutUint32(head, magicNanoseconds)
	binary.LittleEndian.PutUint16(head[4:], 2) // version 2.4
	binary.LittleEndian.PutUint16(head[6:], 4)
	binary.LittleEndian.PutUint32(head[16:], uint32(snap+headerSLL2))
	binary.LittleEndian.PutUint32(head[20:], linkTypeSLL2)
	_, err := w.Write(head)
	return &Writer{w: w}, err
}

// Write adds a packet, in a single call of the underlying Write.
func (w *Writer) Write(f *capture.Frame) error {
	b := w.buf[:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Time.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Data)+headerSLL2))
	b = binary.LittleEndian.AppendUint32(b, uint32(f.Wire+headerSLL2))
	// The cooked header is in network order.
	b = binary.BigEndian.AppendUint16(b, f.EtherType)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(f.LinkIndex))
	b = binary.BigEndian.AppendUint16(b, f.Hardware)
	b = append(b, f.Kind, f.AddrLen)
	b = append(b, f.Addr[:]...)
	b = append(b, f.Data...)
	w.buf = b
	_, err := w.w.Write(b)
	return err
}
