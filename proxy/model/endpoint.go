package model

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Label is one metric label.
type Label struct{ Key, Value string }

// Labels are sorted by key, each key at most once.
type Labels []Label

// MakeLabels merges the maps, later ones winning, into sorted labels.
func MakeLabels(maps ...map[string]string) Labels {
	var all map[string]string
	for _, m := range maps {
		for k, v := range m {
			if all == nil {
				all = make(map[string]string)
			}
			all[k] = v
		}
	}
	out := make(Labels, 0, len(all))
	for k, v := range all {
		out = append(out, Label{k, v})
	}
	slices.SortFunc(out, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Get returns the value of key, and whether it is there.
func (l Labels) Get(key string) (string, bool) {
	i, ok := slices.BinarySearchFunc(l, key, func(e Label, k string) int { return strings.Compare(e.Key, k) })
	if !ok {
		return "", false
	}
	return l[i].Value, true
}

// Equal reports whether both have the same labels.
func (l Labels) Equal(o Labels) bool { return slices.Equal(l, o) }

// Hint is what the control plane knows about the protocol an endpoint's proxy
// wants to be spoken to.
type Hint uint8

// The hints (proxy API chapter, section 3.10).
const (
	// HintNone: nothing is known, speak what the client spoke.
	HintNone Hint = iota
	// HintH2: HTTP/1 requests are carried over HTTP/2.
	HintH2
	// HintOpaque: never upgrade; the transport header has no session protocol.
	HintOpaque
)

// String is for logs.
func (h Hint) String() string {
	switch h {
	case HintH2:
		return "h2"
	case HintOpaque:
		return "opaque"
	}
	return "none"
}

// Locality tells whether an endpoint is in the client's zone.
type Locality uint8

// The localities.
const (
	LocalityUnknown Locality = iota
	LocalityLocal
	LocalityRemote
)

// String is the value of the zone_locality metric label.
func (l Locality) String() string {
	switch l {
	case LocalityLocal:
		return "Local"
	case LocalityRemote:
		return "Remote"
	}
	return "Unknown"
}

// HTTP2Params tune the HTTP/2 client of one endpoint. Zero means that the
// proxy's own setting applies.
type HTTP2Params struct {
	// ConnectionWindow and StreamWindow are in bytes, both set or neither.
	ConnectionWindow, StreamWindow uint32
	// Adaptive asks for windows that follow the bandwidth-delay product; it
	// wins over the sizes.
	Adaptive bool
	// KeepAliveInterval and KeepAliveTimeout are both set or neither.
	KeepAliveInterval, KeepAliveTimeout time.Duration
	// KeepAliveWhileIdle sends pings even when there is no stream.
	KeepAliveWhileIdle bool
	// MaxConcurrentResetStreams, MaxFrameSize (bytes) and MaxSendBufSize
	// (bytes per stream) as in Http2ClientParams.Internals.
	MaxConcurrentResetStreams, MaxFrameSize, MaxSendBufSize uint32
}

// UsualWeight is the weight of an endpoint that is neither preferred nor avoided
// (proxy API chapter, section 3.6).
const UsualWeight = 10000

// Endpoint is one place that traffic can be sent to, and how.
type Endpoint struct {
	// Addr is where the application listens.
	Addr netip.AddrPort
	// TLS is the identity of the endpoint's proxy; zero for unmeshed ones.
	TLS TLSIdentity
	// Hint is the protocol hint.
	Hint Hint
	// TransportPort is the inbound port of the endpoint's proxy if it is to be
	// reached directly with a transport header, else 0.
	TransportPort uint16
	// Authority replaces the request's authority (host or host:port) at
	// gateways; empty for none.
	Authority string
	// Labels are the endpoint's own metric labels with those of its set.
	Labels Labels
	// HTTP2 tunes the client.
	HTTP2 HTTP2Params
	// Weight is the endpoint's share of the traffic in relation to the others'.
	// 0 is UsualWeight.
	Weight uint32
	// Zone is the label zone_locality.
	Zone Locality
}

// UsesTransportHeader reports whether the client offers the transport header
// protocol to this endpoint (proxy API chapter, section 10).
func (e *Endpoint) UsesTransportHeader() bool {
	return e.TransportPort != 0 || e.Authority != ""
}

// Equal reports whether a connection to e serves o just as well; their weights may
// differ.
func (e *Endpoint) Equal(o *Endpoint) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.Addr == o.Addr && e.TLS == o.TLS && e.Hint == o.Hint && e.TransportPort == o.TransportPort &&
		e.Authority == o.Authority && e.HTTP2 == o.HTTP2 && e.Zone == o.Zone &&
		e.Labels.Equal(o.Labels)
}

// Local returns the endpoint as it is reached when it is this very pod: no TLS,
// no transport header, no authority override, no protocol upgrade (proxy
// chapter, section 11).
func (e *Endpoint) Local() *Endpoint {
	l := *e
	l.TLS, l.TransportPort, l.Authority = TLSIdentity{}, 0, ""
	if l.Hint == HintH2 {
		l.Hint = HintNone
	}
	return &l
}

// EndpointSet is a snapshot of the endpoints of one balancer target.
type EndpointSet struct {
	// Endpoints are sorted by address, each address at most once.
	Endpoints []*Endpoint
	// Exists is false if the control plane said that there is no such target.
	Exists bool
	// Updates counts the changes so far by kind, for metrics.
	Updates EndpointUpdates
	// Err is set if the resolution has failed for good: the target was
	// rejected as malformed (proxy API chapter, section 1.4).
	Err error
}

// EndpointUpdates counts applied changes of an endpoint set.
type EndpointUpdates struct{ Reset, Add, Remove uint64 }
