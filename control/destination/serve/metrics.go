package serve

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
)

// Metrics counts streams that were closed because their clients did not keep up. Source: proxy API chapter, section 1.6.
// A nil *Metrics counts nothing.
type Metrics struct {
	endpoints, profiles *prometheus.CounterVec
	endpointProfiles    prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		endpoints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "endpoint_updates_queue_overflow",
			Help: "Streams of endpoints closed because the client did not keep up.",
		}, []string{"service"}),
		profiles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "profile_updates_queue_overflow",
			Help: "Streams of Service profiles closed because the client did not keep up.",
		}, []string{"fqn", "port"}),
		endpointProfiles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "endpoint_profile_updates_queue_overflow",
			Help: "Streams of endpoint profiles closed because the client did not keep up.",
		}),
	}
	registerer.MustRegister(m.endpoints, m.profiles, m.endpointProfiles)
	return m
}

func (m *Metrics) endpointsOverflow(service core.ID) {
	if m != nil {
		m.endpoints.WithLabelValues(service.String()).Inc()
	}
}

func (m *Metrics) profileOverflow(query index.ProfileQuery, clusterDomain string) {
	switch {
	case m == nil:
	case query.Addr.IsValid() || query.Name.Instance != "":
		m.endpointProfiles.Inc()
	default:
		fqn := query.Name.Service.Name + "." + query.Name.Service.Namespace + ".svc." + clusterDomain
		m.profiles.WithLabelValues(fqn, strconv.Itoa(int(query.Port))).Inc()
	}
}
