package series

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// byKey makes handles on first use and finds them without a lock afterwards.
type byKey[K comparable, H interface{ Release() }] struct {
	// known is replaced, never changed, with mu held.
	known atomic.Pointer[map[K]H]
	mu    sync.Mutex
}

// get returns the handle of k. make is called with mu held; it renders labels
// and takes a family's lock, which is always the inner one.
func (b *byKey[K, H]) get(k K, make func(K) H) H {
	if m := b.known.Load(); m != nil {
		if h, ok := (*m)[k]; ok {
			return h
		}
	}
	return b.slow(k, make)
}

func (b *byKey[K, H]) slow(k K, create func(K) H) H {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.known.Load()
	next := map[K]H{}
	if old != nil {
		if h, ok := (*old)[k]; ok {
			return h
		}
		for k, h := range *old {
			next[k] = h
		}
	}
	h := create(k)
	next[k] = h
	b.known.Store(&next)
	return h
}

func (b *byKey[K, H]) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.known.Swap(nil); m != nil {
		for _, h := range *m {
			h.Release()
		}
	}
}

// Class is how a response is judged (proxy chapter, section 15.3).
type Class struct {
	// Status is the HTTP status, 0 if no head was seen.
	Status  int
	Failure bool
	// GRPC is the grpc-status as a number, empty for none.
	GRPC string
	// Error is the label error: empty, "timeout", "h2(REASON)" or
	// "unclassified".
	Error string
}

func (c Class) labels() string {
	class := "success"
	if c.Failure {
		class = "failure"
	}
	return metric.Labels("status_code", statusLabel(c.Status), "classification", class, "grpc_status", c.GRPC, "error", c.Error)
}

func statusLabel(status int) string {
	if status >= 100 && status < 600 {
		return statusLabels[3*(status-100):][:3]
	}
	if status == 0 {
		return ""
	}
	return strconv.Itoa(status)
}

// statusLabels are the labels of all statuses one after the other: one is looked
// up for each request.
var statusLabels = func() string {
	var b []byte
	for status := int64(100); status < 600; status++ {
		b = strconv.AppendInt(b, status, 10)
	}
	return string(b)
}()

// HTTP counts the requests of one endpoint, route or controller.
type HTTP struct {
	labels                       string
	reqs                         metric.Counter
	latencyFamily, responsFamily *metric.Family
	latencies                    byKey[int, metric.Histogram]
	responses                    byKey[Class, metric.Counter]
}

func newHTTP(requests, latency, responses *metric.Family, labels string) *HTTP {
	return &HTTP{labels: labels, reqs: requests.Counter(labels), latencyFamily: latency, responsFamily: responses}
}

// Endpoint counts in request_total and its companions.
func (s *Set) Endpoint(labels string) *HTTP {
	return newHTTP(s.requests, s.latency, s.responses, labels)
}

// ProfileRoute counts in route_request_total and its companions.
func (s *Set) ProfileRoute(labels string) *HTTP {
	return newHTTP(s.routeRequests, s.routeLatency, s.routeResponses, labels)
}

// ProfileActual counts in route_actual_request_total and its companion.
func (s *Set) ProfileActual(labels string) *HTTP {
	return newHTTP(s.actualRequests, nil, s.actualResponses, labels)
}

// Control counts in control_request_total and its companions.
func (s *Set) Control(labels string) *HTTP {
	return newHTTP(s.controlRequests, s.controlLatency, s.controlResponses, labels)
}

// Request counts a request.
func (h *HTTP) Request() { h.reqs.Add(1) }

// Latency records the time from the request to the first frame of the
// response's body.
func (h *HTTP) Latency(status int, d time.Duration) {
	if h.latencyFamily == nil {
		return
	}
	h.latencies.get(status, h.makeLatency).Observe(uint64(max(d, 0) / time.Millisecond))
}

func (h *HTTP) makeLatency(status int) metric.Histogram {
	return h.latencyFamily.Histogram(metric.Join(h.labels, metric.Labels("status_code", statusLabel(status))))
}

// Response counts a response that is over.
func (h *HTTP) Response(c Class) { h.responses.get(c, h.makeResponse).Add(1) }

func (h *HTTP) makeResponse(c Class) metric.Counter {
	return h.responsFamily.Counter(metric.Join(h.labels, c.labels()))
}

// Release gives the handles back.
func (h *HTTP) Release() {
	h.reqs.Release()
	h.latencies.release()
	h.responses.release()
}

// Transport counts connections and their bytes. It is the Counters of netx.
type Transport struct {
	set    *Set
	labels string
	opened metric.Counter
	now    metric.GaugeHandle
	read   metric.Counter
	write  metric.Counter
	closed byKey[string, metric.Counter]
	// sent and received are the zone counters, with outbound endpoints only.
	sent, received metric.Counter
	// shared is set if the handle has several users.
	shared interface{ release(*Transport) bool }
	users  int
}

// Transport makes the handle for connections with these labels.
func (s *Set) Transport(labels string) *Transport {
	return &Transport{
		set: s, labels: labels,
		opened: s.tcpOpen.Counter(labels),
		now:    s.tcpOpenNow.Gauge(labels),
		read:   s.tcpRead.Counter(labels),
		write:  s.tcpWrite.Counter(labels),
	}
}

// Zoned lets the transport count transfer costs by locality as well.
func (t *Transport) Zoned(zone model.Locality) *Transport {
	l := metric.Labels("zone_locality", zone.String())
	t.sent = t.set.transferCost.Counter(metric.Join(`op="Send"`, l))
	t.received = t.set.transferCost.Counter(metric.Join(`op="Recv"`, l))
	return t
}

// Open counts a connection.
func (t *Transport) Open() {
	t.opened.Add(1)
	t.now.Add(1)
}

// AddRead counts n bytes that were read.
func (t *Transport) AddRead(n int) {
	t.read.Add(uint64(n))
	t.received.Add(uint64(n))
}

// AddWritten counts n bytes that were written.
func (t *Transport) AddWritten(n int) {
	t.write.Add(uint64(n))
	t.sent.Add(uint64(n))
}

// Closed counts the end of a connection. errno is the symbolic name of the
// operating system's error, empty for any other end.
func (t *Transport) Closed(errno string) {
	t.now.Add(-1)
	t.closed.get(errno, t.makeClosed).Add(1)
}

func (t *Transport) makeClosed(errno string) metric.Counter {
	return t.set.tcpClose.Counter(metric.Join(t.labels, metric.Labels("errno", errno)))
}

// Transports shares the handles of connections that are labelled alike, so that
// a connection neither renders labels nor holds handles of its own.
type Transports[K comparable] struct {
	set *Set
	mu  sync.Mutex
	// known, and the users of each, are guarded by mu.
	known map[K]*Transport
	keys  map[*Transport]K
}

// NewTransports makes an empty collection.
func NewTransports[K comparable](s *Set) *Transports[K] {
	return &Transports[K]{set: s, known: map[K]*Transport{}, keys: map[*Transport]K{}}
}

// Get gives the handle for connections of kind k; labels renders its labels if
// there is none yet. Each user releases it once.
func (ts *Transports[K]) Get(k K, labels func(K) string) *Transport {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.known[k]
	if t == nil {
		t = ts.set.Transport(labels(k))
		t.shared = ts
		ts.known[k], ts.keys[t] = t, k
	}
	t.users++
	return t
}

// release takes a user off and reports whether it was the last.
func (ts *Transports[K]) release(t *Transport) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.users--; t.users > 0 {
		return false
	}
	delete(ts.known, ts.keys[t])
	delete(ts.keys, t)
	return true
}

// Release gives the handles back, after all connections were closed.
func (t *Transport) Release() {
	if t.shared != nil && !t.shared.release(t) {
		return
	}
	t.opened.Release()
	t.now.Release()
	t.read.Release()
	t.write.Release()
	t.closed.release()
	t.sent.Release()
	t.received.Release()
}

// InboundRoute counts the requests of an inbound route.
type InboundRoute struct {
	grpc     bool
	labels   string
	fam      *inboundRoute
	requests metric.Counter
	// RequestDuration and ResponseDuration take nanoseconds, the others bytes.
	RequestDuration, ResponseDuration metric.Histogram
	RequestFrames, ResponseFrames     metric.Histogram
	statuses                          byKey[string, metric.Counter]
}

// InboundRoute makes the handle of a route; grpc chooses the families.
func (s *Set) InboundRoute(grpc bool, labels string) *InboundRoute {
	f := &s.inHTTP
	if grpc {
		f = &s.inGRPC
	}
	return &InboundRoute{
		grpc: grpc, labels: labels, fam: f,
		requests:         f.requests.Counter(labels),
		RequestDuration:  f.requestDuration.Histogram(labels),
		ResponseDuration: f.responseDuration.Histogram(labels),
		RequestFrames:    f.requestFrames.Histogram(labels),
		ResponseFrames:   f.responseFrames.Histogram(labels),
	}
}

// Request counts a request.
func (r *InboundRoute) Request() { r.requests.Add(1) }

// Status counts a response that is over: by HTTP status, or by gRPC code for
// gRPC routes.
func (r *InboundRoute) Status(c Class) {
	v := c.GRPC
	if !r.grpc {
		v = statusLabel(c.Status)
	}
	r.statuses.get(v, r.makeStatus).Add(1)
}

func (r *InboundRoute) makeStatus(v string) metric.Counter {
	return r.fam.statuses.Counter(metric.Join(r.labels, metric.Labels("status", v)))
}

// Release gives the handles back.
func (r *InboundRoute) Release() {
	r.requests.Release()
	r.RequestDuration.Release()
	r.ResponseDuration.Release()
	r.RequestFrames.Release()
	r.ResponseFrames.Release()
	r.statuses.release()
}

// Result is how a request ended for the registry families of outbound routes.
type Result struct {
	// Status is the HTTP status, 0 for none.
	Status int
	// GRPC is the grpc-status as a number, empty for none.
	GRPC string
	// Error is the label error, for example FAIL_FAST; empty for none.
	Error string
}

// grpcNames are the values of the label grpc_status.
var grpcNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func (r Result) labels(grpc bool) string {
	if !grpc {
		return metric.Labels("http_status", statusLabel(r.Status), "error", r.Error)
	}
	name := ""
	if n, err := strconv.Atoi(r.GRPC); err == nil && 0 <= n && n < len(grpcNames) {
		name = grpcNames[n]
	} else if r.GRPC != "" || r.Error != "" {
		name = "UNKNOWN"
	}
	return metric.Labels("grpc_status", name, "error", r.Error)
}

// OutboundRoute counts the requests of an outbound route.
type OutboundRoute struct {
	grpc     bool
	labels   string
	fam      *outboundRoute
	Duration metric.Histogram
	Frames   metric.Histogram
	statuses byKey[Result, metric.Counter]
	retry    sync.Once
	// Retry counters are made with the first use, for most routes have none.
	retries, retrySuccesses, retryLimit, retryOverflow metric.Counter
}

// OutboundRoute makes the handle of a route.
func (s *Set) OutboundRoute(grpc bool, labels string) *OutboundRoute {
	f := &s.outHTTP
	if grpc {
		f = &s.outGRPC
	}
	return &OutboundRoute{
		grpc: grpc, labels: labels, fam: f,
		Duration: f.duration.Histogram(labels),
		Frames:   f.frames.Histogram(labels),
	}
}

// End counts a request that is over.
func (r *OutboundRoute) End(res Result) {
	if r.grpc {
		res.Status = 0
	} else {
		res.GRPC = ""
	}
	r.statuses.get(res, r.makeStatus).Add(1)
}

func (r *OutboundRoute) makeStatus(res Result) metric.Counter {
	return r.fam.statuses.Counter(metric.Join(r.labels, res.labels(r.grpc)))
}

func (r *OutboundRoute) initRetry() {
	r.retry.Do(func() {
		r.retries = r.fam.retries.Counter(r.labels)
		r.retrySuccesses = r.fam.retrySuccesses.Counter(r.labels)
		r.retryLimit = r.fam.retryLimit.Counter(r.labels)
		r.retryOverflow = r.fam.retryOverflow.Counter(r.labels)
	})
}

// RetrySent counts a retry; RetrySucceeded one that went well; RetryLimit a
// failure after the last; RetryOverflow one that found no ready backend.
func (r *OutboundRoute) RetrySent() { r.initRetry(); r.retries.Add(1) }

// RetrySucceeded is described with RetrySent.
func (r *OutboundRoute) RetrySucceeded() { r.initRetry(); r.retrySuccesses.Add(1) }

// RetryLimit is described with RetrySent.
func (r *OutboundRoute) RetryLimit() { r.initRetry(); r.retryLimit.Add(1) }

// RetryOverflow is described with RetrySent.
func (r *OutboundRoute) RetryOverflow() { r.initRetry(); r.retryOverflow.Add(1) }

// Release gives the handles back.
func (r *OutboundRoute) Release() {
	r.Duration.Release()
	r.Frames.Release()
	r.statuses.release()
	r.retry.Do(func() {})
	r.retries.Release()
	r.retrySuccesses.Release()
	r.retryLimit.Release()
	r.retryOverflow.Release()
}

// OutboundBackend counts the attempts on one backend of a route.
type OutboundBackend struct {
	grpc     bool
	labels   string
	fam      *outboundRoute
	requests metric.Counter
	Duration metric.Histogram
	Frames   metric.Histogram
	statuses byKey[Result, metric.Counter]
}

// OutboundBackend makes the handle of a route's backend.
func (s *Set) OutboundBackend(grpc bool, labels string) *OutboundBackend {
	f := &s.outHTTP
	if grpc {
		f = &s.outGRPC
	}
	return &OutboundBackend{
		grpc: grpc, labels: labels, fam: f,
		requests: f.backendRequests.Counter(labels),
		Duration: f.backendDuration.Histogram(labels),
		Frames:   f.backendFrames.Histogram(labels),
	}
}

// Request counts an attempt.
func (b *OutboundBackend) Request() { b.requests.Add(1) }

// End counts an attempt that is over.
func (b *OutboundBackend) End(res Result) {
	if b.grpc {
		res.Status = 0
	} else {
		res.GRPC = ""
	}
	b.statuses.get(res, b.makeStatus).Add(1)
}

func (b *OutboundBackend) makeStatus(res Result) metric.Counter {
	return b.fam.backendStatuses.Counter(metric.Join(b.labels, res.labels(b.grpc)))
}

// Release gives the handles back.
func (b *OutboundBackend) Release() {
	b.requests.Release()
	b.Duration.Release()
	b.Frames.Release()
	b.statuses.release()
}
