// Package tap lets requests be observed while they pass (proxy chapter, section
// 21; proxy API chapter, section 9.1).
//
//	if hub.Active() {                                   // one atomic load
//		s := hub.Begin(tap.Request{...})                // nil if nobody wants it
//		...
//		s.Response(head, now)
//		s.End(tap.End{...})
//	}
//
// A Tap is one observer's wish: what to match and how many. Its events wait in
// a channel; an observer that is slow loses events, which are counted, and holds
// nobody up. All
// methods may be called from any goroutine, those of a Session by one at a time.
// Nothing that is passed in is kept but what is copied.
package tap

import (
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Request is a request as it can be matched.
type Request struct {
	// Outbound tells the direction.
	Outbound            bool
	Source, Destination netip.AddrPort
	// SourceLabels, DestinationLabels and RouteLabels are what is known about
	// the ends and the route.
	SourceLabels, DestinationLabels, RouteLabels model.Labels
	Head                                         *exchange.RequestHead
	At                                           time.Time
}

// Header is a header field.
type Header struct {
	Name  string
	Value []byte
}

// Kind says what an event tells.
type Kind uint8

// The kinds of events, in the order in which they come.
const (
	RequestInit Kind = iota + 1
	ResponseInit
	ResponseEnd
)

// Meta is what all events of a request have in common.
type Meta struct {
	Outbound                                     bool
	Source, Destination                          netip.AddrPort
	SourceLabels, DestinationLabels, RouteLabels model.Labels
}

// Event is one thing that happened to a request.
type Event struct {
	*Meta
	Kind Kind
	// Stream counts the requests of a tap.
	Stream uint64
	// Method, Scheme, Authority and Path are set with RequestInit.
	Method, Scheme, Authority, Path string
	// Headers are those of the request or response, or the trailers, if they
	// were asked for.
	Headers []Header
	// Status is set with ResponseInit.
	Status int
	// SinceRequest and SinceResponse are the times since the heads; HasHead
	// says that the latter is known.
	SinceRequest, SinceResponse time.Duration
	HasHead                     bool
	// Bytes is the length of the response's body.
	Bytes uint64
	End   End
}

// End is how an exchange ended.
type End struct {
	At    time.Time
	Bytes uint64
	// GRPC is the grpc-status, -1 for none; Reset the HTTP/2 error code, -1
	// for none.
	GRPC, Reset int64
	Trailers    *exchange.Fields
}

// Options are what an observer wants.
type Options struct {
	// Limit is how many requests are observed.
	Limit uint32
	// Match decides which.
	Match func(*Request) bool
	// Headers asks for header fields.
	Headers bool
}

// buffer is how many events wait for an observer.
const buffer = 400

// Hub has the taps of a proxy. The zero Hub has none.
type Hub struct {
	taps atomic.Pointer[[]*Tap]
	mu   sync.Mutex // guards replacing taps
	base atomic.Uint32
	// lost counts the events that observers were too slow for.
	lost atomic.Uint64
}

// Lost is how many events observers were too slow for.
func (h *Hub) Lost() uint64 { return h.lost.Load() }

// Active reports whether anybody observes.
func (h *Hub) Active() bool { return h != nil && h.taps.Load() != nil }

// Tap is one observation.
type Tap struct {
	hub *Hub
	o   Options
	// Base distinguishes the observations of a process.
	Base   uint32
	events chan Event
	done   chan struct{}
	lost   atomic.Uint64

	mu sync.Mutex
	// matched, open and over are guarded by mu.
	matched uint64
	open    int
	over    bool
}

// Observe adds a tap. Close has to be called.
func (h *Hub) Observe(o Options) *Tap {
	t := &Tap{hub: h, o: o, Base: h.base.Add(1) - 1, events: make(chan Event, buffer), done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	var next []*Tap
	if old := h.taps.Load(); old != nil {
		next = append(next, *old...)
	}
	next = append(next, t)
	h.taps.Store(&next)
	return t
}

// Events are what is observed. The channel is not closed; see Done.
func (t *Tap) Events() <-chan Event { return t.events }

// Lost is how many of the tap's events its observer was too slow for.
func (t *Tap) Lost() uint64 { return t.lost.Load() }

// Done is closed when as many requests as were wanted have come and ended;
// events may still wait then.
func (t *Tap) Done() <-chan struct{} { return t.done }

// Close ends the observation.
func (t *Tap) Close() {
	t.hub.remove(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finishLocked()
}

func (t *Tap) finishLocked() {
	if !t.over {
		t.over = true
		close(t.done)
	}
}

func (h *Hub) remove(t *Tap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.taps.Load()
	if old == nil {
		return
	}
	var next []*Tap
	for _, o := range *old {
		if o != t {
			next = append(next, o)
		}
	}
	if len(next) == 0 {
		h.taps.Store(nil)
	} else {
		h.taps.Store(&next)
	}
}

// take counts a request against the tap's limit and gives its number.
func (t *Tap) take() (stream uint64, last, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.matched >= uint64(t.o.Limit) {
		return 0, false, false
	}
	stream = t.matched
	t.matched++
	t.open++
	return stream, t.matched == uint64(t.o.Limit), true
}

// put is an observed request's end.
func (t *Tap) put() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open--; t.open == 0 && t.matched >= uint64(t.o.Limit) {
		t.finishLocked()
	}
}

func (t *Tap) send(e Event) {
	select {
	case t.events <- e:
	default:
		// The observer is slow; the request is not.
		t.lost.Add(1)
		t.hub.lost.Add(1)
	}
}

// Session is a request under observation. A nil one observes nothing.
type Session struct {
	meta      Meta
	taps      []*Tap
	streams   []uint64
	began     time.Time
	responded time.Time
}

// Begin tells observers of a request; nil if none of them wants it.
func (h *Hub) Begin(r Request) *Session {
	taps := h.taps.Load()
	if taps == nil {
		return nil
	}
	var s *Session
	for _, t := range *taps {
		if !t.o.Match(&r) {
			continue
		}
		stream, last, ok := t.take()
		if !ok {
			continue
		}
		if last {
			h.remove(t)
		}
		if s == nil {
			s = &Session{began: r.At, meta: Meta{
				Outbound: r.Outbound, Source: r.Source, Destination: r.Destination, SourceLabels: r.SourceLabels,
				DestinationLabels: r.DestinationLabels, RouteLabels: r.RouteLabels,
			}}
		}
		s.taps, s.streams = append(s.taps, t), append(s.streams, stream)
	}
	if s == nil {
		return nil
	}
	e := Event{
		Meta: &s.meta, Kind: RequestInit, Method: string(r.Head.Method), Scheme: scheme(r.Head),
		Authority: authority(r.Head), Path: path(r.Head),
	}
	s.each(e, func(e *Event) { e.Headers = requestHeaders(r.Head) })
	return s
}

// each sends an event to all taps, with headers to those that want them.
func (s *Session) each(e Event, headers func(*Event)) {
	for i, t := range s.taps {
		e := e
		e.Stream = s.streams[i]
		if t.o.Headers {
			headers(&e)
		}
		t.send(e)
	}
}

// Response tells of the response's head.
func (s *Session) Response(h *exchange.ResponseHead, at time.Time) {
	if s == nil {
		return
	}
	s.responded = at
	e := Event{Meta: &s.meta, Kind: ResponseInit, Status: h.Status, SinceRequest: at.Sub(s.began)}
	s.each(e, func(e *Event) {
		if h.Version == exchange.HTTP2 {
			e.Headers = append(e.Headers, Header{":status", []byte(status(h.Status))})
		}
		e.Headers = append(e.Headers, fields(&h.Fields)...)
	})
}

// End tells that the exchange is over. It has to be called once.
func (s *Session) End(end End) {
	if s == nil {
		return
	}
	e := Event{Meta: &s.meta, Kind: ResponseEnd, SinceRequest: end.At.Sub(s.began), Bytes: end.Bytes, End: end}
	if !s.responded.IsZero() {
		e.HasHead, e.SinceResponse = true, end.At.Sub(s.responded)
	}
	// The trailers are only lent.
	trailers := end.Trailers
	e.End.Trailers = nil
	s.each(e, func(e *Event) {
		if trailers != nil {
			e.Headers = fields(trailers)
		}
	})
	for _, t := range s.taps {
		t.put()
	}
}

func status(n int) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

func scheme(h *exchange.RequestHead) string {
	if len(h.Scheme) == 0 {
		return "http"
	}
	return string(h.Scheme)
}

func authority(h *exchange.RequestHead) string {
	if len(h.Authority) > 0 {
		return string(h.Authority)
	}
	return string(h.Get("host"))
}

// path is the request's path without its query.
func path(h *exchange.RequestHead) string {
	for i, c := range h.Path {
		if c == '?' {
			return string(h.Path[:i])
		}
	}
	return string(h.Path)
}

func requestHeaders(h *exchange.RequestHead) []Header {
	var out []Header
	if h.Version == exchange.HTTP2 {
		out = append(out, Header{":method", []byte(string(h.Method))}, Header{":scheme", []byte(scheme(h))},
			Header{":authority", []byte(string(h.Authority))}, Header{":path", []byte(string(h.Path))})
	}
	return append(out, fields(&h.Fields)...)
}

func fields(f *exchange.Fields) []Header {
	out := make([]Header, 0, len(f.List))
	for _, e := range f.List {
		out = append(out, Header{string(e.Name), append([]byte(nil), e.Value...)})
	}
	return out
}

// GRPC is a grpc-status label as End has it.
func GRPC(label string) int64 {
	if label == "" {
		// Without this, every request would allocate an error.
		return -1
	}
	n, err := strconv.ParseInt(label, 10, 32)
	if err != nil {
		return -1
	}
	return n
}

// Reset is the HTTP/2 error code of an exchange's error as End has it.
func Reset(err error) int64 {
	if err == nil {
		return -1
	}
	var reset *exchange.ResetError
	if !errors.As(err, &reset) {
		return -1
	}
	return int64(reset.Code)
}
