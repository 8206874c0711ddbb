package series

import (
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
)

// BalancerStats is a balancer's state at one moment.
type BalancerStats struct {
	Ready, Pending         int
	Reset, Add, Remove     uint64
	QueueLength            int
	QueueRequests          uint64
	GateOpen, GateShut     uint64
	GateOpened, GateShutAt time.Time
	GateTimeout            time.Duration
}

// Balancer are the families of a kind of balancer (proxy chapter, section
// 23.10). Balancers are asked for their state when the metrics are written;
// those with the same labels are added up.
type Balancer struct {
	endpoints, p2c, updates, length, requests   *metric.Family
	Latency                                     *metric.Family
	open, shut, openTime, shutTime, gateTimeout *metric.Family

	mu sync.Mutex
	// groups is guarded by mu.
	groups map[string]*balancerGroup
}

// balancerGroup is all balancers with the same labels, as long as there is one.
type balancerGroup struct {
	live map[*BalancerSource]struct{}
	// ended has the counters of those that are gone, for counters must not
	// fall.
	ended                                                    BalancerStats
	ready, pending, p2c, length, openTime, shutTime, timeout metric.GaugeHandle
	reset, add, remove, requests, open, shut                 *counterTo
}

// counterTo is a counter that is set to what somebody else counted.
type counterTo struct {
	c    metric.Counter
	last uint64
}

func (c *counterTo) set(v uint64) {
	if v > c.last {
		c.c.Add(v - c.last)
		c.last = v
	}
}

// NewBalancer adds the families with the given prefix.
func NewBalancer(reg *metric.Registry, prefix string) *Balancer {
	g := metric.Option(metric.Gauge)
	b := &Balancer{
		endpoints:   reg.Open(prefix+"_endpoints", "The number of endpoints currently in the balancer", g),
		p2c:         reg.Open(prefix+"_p2c_endpoints", "The number of endpoints known to the balancer", g),
		updates:     reg.Open(prefix+"_p2c_updates", "The total number of service discovery updates processed by the balancer"),
		length:      reg.Open(prefix+"_queue_length", "The number of requests waiting in the queue", g),
		requests:    reg.Open(prefix+"_queue_requests", "The total number of requests that were put into the queue"),
		Latency:     reg.Open(prefix+"_queue_latency_seconds", "The time requests spent in the queue", seconds(0.0005, 0.005, 0.05, 0.5, 1, 3)...),
		open:        reg.Open(prefix+"_queue_gate_open", "The total number of times the gate opened"),
		shut:        reg.Open(prefix+"_queue_gate_shut", "The total number of times the gate shut"),
		openTime:    reg.Open(prefix+"_queue_gate_open_time_seconds", "When the gate opened last", g, metric.Unit("seconds")),
		shutTime:    reg.Open(prefix+"_queue_gate_shut_time_seconds", "When the gate shut last", g, metric.Unit("seconds")),
		gateTimeout: reg.Open(prefix+"_queue_gate_timeout_seconds", "The time after which the gate shuts", g, metric.Unit("seconds")),
		groups:      map[string]*balancerGroup{},
	}
	reg.OnWrite(b.collect)
	return b
}

// BalancerSource is a balancer that is asked.
type BalancerSource struct {
	families *Balancer
	labels   string
	read     func() BalancerStats
}

// Add has a balancer asked from now on; read must be cheap and may be called
// from any goroutine until Remove returns.
func (b *Balancer) Add(labels string, read func() BalancerStats) *BalancerSource {
	src := &BalancerSource{b, labels, read}
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[labels]
	if g == nil {
		op := func(name string) *counterTo {
			return &counterTo{c: b.updates.Counter(metric.Join(labels, metric.Labels("op", name)))}
		}
		state := func(name string) metric.GaugeHandle {
			return b.endpoints.Gauge(metric.Join(labels, metric.Labels("endpoint_state", name)))
		}
		g = &balancerGroup{
			live:  map[*BalancerSource]struct{}{},
			ready: state("ready"), pending: state("pending"), p2c: b.p2c.Gauge(labels), length: b.length.Gauge(labels),
			openTime: b.openTime.Gauge(labels), shutTime: b.shutTime.Gauge(labels), timeout: b.gateTimeout.Gauge(labels),
			reset: op("Reset"), add: op("Add"), remove: op("Remove"),
			requests: &counterTo{c: b.requests.Counter(labels)},
			open:     &counterTo{c: b.open.Counter(labels)}, shut: &counterTo{c: b.shut.Counter(labels)},
		}
		b.groups[labels] = g
	}
	g.live[src] = struct{}{}
	return src
}

// Remove ends the asking, before the balancer is closed. What it counted is
// kept.
func (s *BalancerSource) Remove() {
	last := s.read()
	b := s.families
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.groups[s.labels]
	delete(g.live, s)
	g.ended.count(last)
	if len(g.live) == 0 {
		// The series stay, with what was counted, and the next balancer with these
		// labels goes on with them; but nobody holds them any more, so that those
		// of services that are long gone can make room.
		g.collect()
		g.release()
		delete(b.groups, s.labels)
	}
}

// release gives the handles back.
func (g *balancerGroup) release() {
	for _, h := range []metric.GaugeHandle{g.ready, g.pending, g.p2c, g.length, g.openTime, g.shutTime, g.timeout} {
		h.Release()
	}
	for _, c := range []*counterTo{g.reset, g.add, g.remove, g.requests, g.open, g.shut} {
		c.c.Release()
	}
}

// count adds another one's counters.
func (s *BalancerStats) count(o BalancerStats) {
	s.Reset += o.Reset
	s.Add += o.Add
	s.Remove += o.Remove
	s.QueueRequests += o.QueueRequests
	s.GateOpen += o.GateOpen
	s.GateShut += o.GateShut
}

// collect brings the families up to date.
func (b *Balancer) collect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.groups {
		g.collect()
	}
}

// collect brings the series of a group up to date.
func (g *balancerGroup) collect() {
	sum := g.ended
	for src := range g.live {
		st := src.read()
		sum.count(st)
		sum.Ready += st.Ready
		sum.Pending += st.Pending
		sum.QueueLength += st.QueueLength
		sum.GateTimeout = max(sum.GateTimeout, st.GateTimeout)
		if st.GateOpened.After(sum.GateOpened) {
			sum.GateOpened = st.GateOpened
		}
		if st.GateShutAt.After(sum.GateShutAt) {
			sum.GateShutAt = st.GateShutAt
		}
	}
	g.ready.Set(float64(sum.Ready))
	g.pending.Set(float64(sum.Pending))
	g.p2c.Set(float64(sum.Ready + sum.Pending))
	g.length.Set(float64(sum.QueueLength))
	g.openTime.Set(unix(sum.GateOpened))
	g.shutTime.Set(unix(sum.GateShutAt))
	g.timeout.Set(sum.GateTimeout.Seconds())
	g.reset.set(sum.Reset)
	g.add.set(sum.Add)
	g.remove.set(sum.Remove)
	g.requests.set(sum.QueueRequests)
	g.open.set(sum.GateOpen)
	g.shut.set(sum.GateShut)
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
