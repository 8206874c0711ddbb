package grpcserve

import (
	"sync"

	"google.golang.org/grpc"
)

// Message is a message that any number of streams send. The first encodes it, and the others send the same bytes: a change
// that thousands follow is encoded once. Its methods may be called from any goroutine.
//
//	m := grpcserve.NewMessage(update)
//	...
//	err := m.Send(stream) // in each stream
//
// Encoding is what a stream's compression and codec ask for; the controllers register none beside gRPC's own, so that it is
// the same for all.
type Message[M any] struct {
	once sync.Once
	// encoded is nil if the message cannot be encoded ahead, as in tests without a real stream; then plain is sent. plain is
	// given up when it has been encoded, and must not be changed before.
	encoded *grpc.PreparedMsg
	plain   *M
}

// NewMessage returns a message to send. It must not be changed any more.
func NewMessage[M any](m *M) *Message[M] { return &Message[M]{plain: m} }

// Send sends the message on a stream, like the stream's own Send.
func (m *Message[M]) Send(stream grpc.ServerStreamingServer[M]) error {
	m.once.Do(func() {
		encoded := new(grpc.PreparedMsg)
		// An error comes again, and to who has to know, when the message is sent as it is.
		if encoded.Encode(stream, m.plain) == nil {
			m.encoded, m.plain = encoded, nil
		}
	})
	if m.encoded == nil {
		return stream.Send(m.plain)
	}
	return stream.SendMsg(m.encoded)
}
