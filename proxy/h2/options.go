package h2

import (
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Options are the parameters of a connection. The zero value of each takes the
// default of the proxy chapter, section 2.3.
type Options struct {
	// InitialStreamWindow is how much a peer may send on a stream before
	// the consumer has taken it, in bytes; 65,535.
	InitialStreamWindow uint32
	// InitialConnectionWindow is the same for all streams together; 1 MiB.
	InitialConnectionWindow uint32
	// MaxFrameSize is the largest frame we accept; 16,384.
	MaxFrameSize uint32
	// MaxHeaderListSize is the largest head we accept, uncompressed and with
	// 32 bytes for each field; 16,384.
	MaxHeaderListSize uint32
	// MaxConcurrentStreams limits what a client may have open; 0 advertises
	// no limit. Only servers use it.
	MaxConcurrentStreams uint32
	// InitialMaxSendStreams is how many streams a client opens before the
	// server's settings arrived; 100.
	InitialMaxSendStreams uint32
	// MaxPendingResets is how many streams a client may open and reset
	// before the server got to them; 20.
	MaxPendingResets int
	// MaxSendBuffer is how much of one stream's data may wait to be written, in
	// bytes; without it, or if it is more, what a connection may keep is the
	// limit, 64 KiB for all streams together.
	MaxSendBuffer uint32
	// KeepAliveInterval and KeepAliveTimeout, if both are set, make the
	// connection send PING after a silence of the first and give up when
	// there is no answer within the second.
	KeepAliveInterval, KeepAliveTimeout time.Duration
	// KeepAliveWhileIdle sends PING also while no stream is open. Servers
	// always do.
	KeepAliveWhileIdle bool
	// AdaptiveWindow lets windows grow with the bandwidth-delay product.
	AdaptiveWindow bool
	// OwnHost, if set, tells whether a request may have a host field that means
	// something else than its authority, which is malformed otherwise (RFC
	// 9113, section 8.3.1). Only servers use it. It must not block.
	OwnHost func(*exchange.RequestHead) bool
	// Scarce, if set, is told of memory that is about to be taken, in bytes,
	// and tells whether memory is scarce: a server has streams refused then,
	// one after the other; see exchange.Exchange.Shed. It must not block.
	Scarce func(n int) bool
	// Draining, if set, is called once, when the peer has announced that it
	// takes no more streams, or the connection has ended: a client's owner
	// connects anew. It must not block.
	Draining func()
}

func (o *Options) defaults() {
	set := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.InitialStreamWindow, defaultWindow)
	set(&o.InitialConnectionWindow, 1<<20)
	set(&o.MaxFrameSize, defaultFrameSize)
	set(&o.MaxHeaderListSize, 16<<10)
	set(&o.InitialMaxSendStreams, 100)
	o.InitialStreamWindow = min(o.InitialStreamWindow, maxWindow)
	o.InitialConnectionWindow = min(max(o.InitialConnectionWindow, defaultWindow), maxWindow)
	o.MaxFrameSize = min(max(o.MaxFrameSize, defaultFrameSize), 1<<24-1)
	if o.MaxPendingResets == 0 {
		o.MaxPendingResets = 20
	}
}
