package index

import (
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Metrics counts what an index does. Its zero pointer counts nothing. Source: control plane chapter, section 14.1.
type Metrics struct {
	applies, deletes, restarts, errors *prometheus.CounterVec
	inbound                            map[string]*prometheus.GaugeVec
	services, serviceInfos             prometheus.Gauge
}

// inboundTables are the names of the tables whose sizes are shown by namespace.
var inboundTables = []string{
	"meshtls_authentication", "network_authentication", "pod", "external_workload", "server", "server_authorization",
	"authorization_policy", "http_route",
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	watch := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kube_watch_" + name + "_total", Help: help}, append([]string{"kind", "group", "version"}, labels...))
		registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	m := &Metrics{
		applies:      watch("applies", "New and changed objects received."),
		deletes:      watch("deletes", "Deleted objects."),
		restarts:     watch("restarts", "Complete lists received."),
		errors:       watch("errors", "Objects that could not be read.", "error"),
		inbound:      make(map[string]*prometheus.GaugeVec),
		services:     gauge("outbound_index_service_index_size", "Cluster IPs of Services."),
		serviceInfos: gauge("outbound_index_service_info_index_size", "Services."),
	}
	for _, name := range inboundTables {
		m.inbound[name] = prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "inbound_index_" + name + "_index_size",
			Help: "Objects in the index, by namespace.",
		}, []string{"namespace"})
		registry.MustRegister(m.inbound[name])
	}
	return m
}

// sizes shows how much is in the tables. It is called on the index's goroutine.
func (m *Metrics) sizes(t *tables) {
	if m == nil {
		return
	}
	m.services.Set(float64(len(t.servicesAt)))
	count := 0
	for _, services := range t.services {
		count += len(services)
	}
	m.serviceInfos.Set(float64(count))
}

// observer returns what counts the events of a kind's watch.
func (m *Metrics) observer(k *kind) kube.Observer {
	if m == nil {
		return nil
	}
	labels := prometheus.Labels{"kind": k.name, "group": k.resource.Group, "version": k.resource.Version}
	return &observer{
		applies:  m.applies.With(labels),
		deletes:  m.deletes.With(labels),
		restarts: m.restarts.With(labels),
	}
}

// failed counts an object that could not be used.
func (m *Metrics) failed(k *kind) {
	if m != nil {
		m.errors.WithLabelValues(k.name, k.resource.Group, k.resource.Version, "decode").Inc()
	}
}

type observer struct {
	applies, deletes, restarts prometheus.Counter
}

var _ kube.Observer = (*observer)(nil)

// Applied implements kube.Observer.
func (o *observer) Applied(metav1.Object) { o.applies.Inc() }

// Deleted implements kube.Observer.
func (o *observer) Deleted() { o.deletes.Inc() }

// Restarted implements kube.Observer.
func (o *observer) Restarted(int) { o.restarts.Inc() }

// Failed implements kube.Observer. Objects that cannot be used are counted where they are left out.
func (o *observer) Failed(error) {}
