package index

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Metrics counts what an index does. Source: control plane chapter, section 10. A nil *Metrics counts nothing.
type Metrics struct {
	cluster    string
	registerer prometheus.Registerer

	endpointsSubscribers, endpointsPods, endpointsExists *prometheus.GaugeVec
	endpointsUpdates                                     *prometheus.CounterVec
	profileSubs                                          *prometheus.GaugeVec
	profileUpdates                                       *prometheus.CounterVec
	workloadSubs                                         prometheus.Gauge
	workloadUpdates                                      prometheus.Counter
	sizeOf                                               map[string]*prometheus.GaugeVec

	// profileStreams has the number of streams per Service profile, to know when a series is not needed any more. It
	// belongs to the index's goroutine.
	profileStreams map[profileLabels]int
}

// profileLabels are the labels of a Service profile's series.
type profileLabels struct{ namespace, name string }

// LocalCluster is the value of the label `cluster` for the cluster that the controller runs in.
const LocalCluster = "local"

// NewMetrics registers the metrics of an index. Several clusters may share a registerer.
func NewMetrics(registerer prometheus.Registerer, cluster string) *Metrics {
	m := &Metrics{cluster: cluster, registerer: registerer, profileStreams: make(map[profileLabels]int)}
	port := []string{"cluster", "namespace", "service", "port", "hostname", "nodename"}
	profile := []string{"namespace", "profile"}
	gauge := func(name, help string, labels []string) *prometheus.GaugeVec {
		return shared(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
	}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return shared(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	m.endpointsSubscribers = gauge("endpoints_subscribers", "Streams that follow the endpoints of a port of a Service.", port)
	m.endpointsPods = gauge("endpoints_pods", "Endpoints that these streams see.", port)
	m.endpointsExists = gauge("endpoints_exists", "1 if the Service exists.", port)
	m.endpointsUpdates = counter("endpoints_updates", "Changes of these endpoints.", port)
	m.profileSubs = gauge("profile_subscribers", "Streams that follow the profile of a Service.", profile)
	m.profileUpdates = counter("profile_updates", "Changes of the profile of a Service.", profile)
	m.workloadSubs = shared(registerer, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "workload_subscribers", Help: "Streams that follow the profile of an address.",
	}))
	m.workloadUpdates = shared(registerer, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "workload_updates", Help: "Changes of the profile of an address.",
	}))
	m.sizeOf = make(map[string]*prometheus.GaugeVec)
	for _, kind := range []string{"services", "endpointslices", "pods", "externalworkloads", "serviceprofiles", "servers", "nodes"} {
		m.sizeOf[kind] = gauge(kind+"_cache_size", "Objects known.", []string{"cluster"})
	}
	return m
}

// shared registers a collector, or returns the one that is registered under its name.
func shared[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	if err := registerer.Register(collector); err != nil {
		var exists prometheus.AlreadyRegisteredError
		if !errors.As(err, &exists) {
			panic(err) // two metrics of one name with different labels: a programming error
		}
		return exists.ExistingCollector.(C)
	}
	return collector
}

func (m *Metrics) portLabels(key portKey, viewer core.Viewer) []string {
	return []string{m.cluster, key.service.Namespace, key.service.Name, strconv.Itoa(int(key.port)), viewer.Hostname, viewer.Node}
}

// subscribers adds to the number of streams of a group. Groups that differ in the zone alone share a series.
func (m *Metrics) subscribers(key portKey, viewer core.Viewer, n int) {
	if m != nil {
		m.endpointsSubscribers.WithLabelValues(m.portLabels(key, viewer)...).Add(float64(n))
	}
}

// sizes shows how many objects are known.
func (m *Metrics) sizes(t *tables) {
	if m == nil {
		return
	}
	serverCount := 0
	for _, inNamespace := range t.servers {
		serverCount += len(inNamespace)
	}
	for kind, n := range map[string]int{
		"services": len(t.services), "endpointslices": len(t.slices), "pods": len(t.pods), "externalworkloads": len(t.externals),
		"serviceprofiles": len(t.profiles), "servers": serverCount, "nodes": len(t.zones),
	} {
		m.sizeOf[kind].WithLabelValues(m.cluster).Set(float64(n))
	}
}

// Forget removes the series of the index's cluster, which is not linked any more. The index must have stopped.
func (m *Metrics) Forget() {
	of := prometheus.Labels{"cluster": m.cluster}
	for _, sizes := range m.sizeOf {
		sizes.DeletePartialMatch(of)
	}
	for _, gauge := range []*prometheus.GaugeVec{m.endpointsSubscribers, m.endpointsPods, m.endpointsExists} {
		gauge.DeletePartialMatch(of)
	}
	m.endpointsUpdates.DeletePartialMatch(of)
}

// updated counts a change of what a group sees.
func (m *Metrics) updated(key portKey, viewer core.Viewer, endpoints int, exists bool) {
	if m == nil {
		return
	}
	labels := m.portLabels(key, viewer)
	m.endpointsUpdates.WithLabelValues(labels...).Inc()
	m.endpointsPods.WithLabelValues(labels...).Set(float64(endpoints))
	value := 0.0
	if exists {
		value = 1
	}
	m.endpointsExists.WithLabelValues(labels...).Set(value)
}

// forget removes the series of a group that is gone.
func (m *Metrics) forget(key portKey, viewer core.Viewer) {
	if m == nil {
		return
	}
	labels := m.portLabels(key, viewer)
	m.endpointsSubscribers.DeleteLabelValues(labels...)
	m.endpointsUpdates.DeleteLabelValues(labels...)
	m.endpointsPods.DeleteLabelValues(labels...)
	m.endpointsExists.DeleteLabelValues(labels...)
}

// profileSubscribers counts streams of a profile. Addresses are counted together: there are too many to tell apart.
func (m *Metrics) profileSubscribers(profile *core.Profile, n int) {
	switch {
	case m == nil:
	case profile.Endpoint != nil:
		m.workloadSubs.Add(float64(n))
	default:
		labels := profileLabels{profile.Service.Namespace, profile.Name}
		m.profileStreams[labels] += n
		if m.profileStreams[labels] == 0 {
			delete(m.profileStreams, labels)
			m.profileSubs.DeleteLabelValues(labels.namespace, labels.name)
			m.profileUpdates.DeleteLabelValues(labels.namespace, labels.name)
			return
		}
		m.profileSubs.WithLabelValues(labels.namespace, labels.name).Set(float64(m.profileStreams[labels]))
	}
}

// profileUpdated counts a change of a profile.
func (m *Metrics) profileUpdated(profile *core.Profile) {
	switch {
	case m == nil:
	case profile.Endpoint != nil:
		m.workloadUpdates.Inc()
	default:
		m.profileUpdates.WithLabelValues(profile.Service.Namespace, profile.Name).Inc()
	}
}

// observer returns the observer of one watch, or nil.
func (m *Metrics) observer(resource string) kube.Observer {
	if m == nil {
		return nil
	}
	switch resource {
	case "endpoints", "endpointslices", "services", "servers", "pods", "serviceprofiles":
	case "externalworkloads":
		resource = "externalworkload" // the name that dashboards know
	default:
		return nil
	}
	return &lagObserver{lag: shared(m.registerer, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    resource + "_informer_lag_seconds",
		Help:    "Time from the change of an object to its arrival here.",
		Buckets: []float64{0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000},
	}))}
}

// lagObserver measures how late one watch is. It is called from that watch's goroutine alone.
type lagObserver struct {
	lag prometheus.Histogram
	// listed says that the first list has arrived: only changes after it say something about lag.
	listed bool
}

func (o *lagObserver) Applied(object metav1.Object) {
	if !o.listed {
		return
	}
	var newest time.Time
	for _, field := range object.GetManagedFields() {
		if field.Time != nil && field.Time.After(newest) {
			newest = field.Time.Time
		}
	}
	if !newest.IsZero() {
		o.lag.Observe(time.Since(newest).Seconds())
	}
}

func (o *lagObserver) Deleted()      {}
func (o *lagObserver) Restarted(int) { o.listed = true }
func (o *lagObserver) Failed(error)  {}
