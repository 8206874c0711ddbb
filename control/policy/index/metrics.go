package index

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Metrics counts what the watches bring. Its zero pointer counts nothing. Source: control plane chapter, section 14.1.
type Metrics struct {
	applies, deletes, restarts, errors *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	watch := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kube_watch_" + name + "_total", Help: help}, append([]string{"kind", "group", "version"}, labels...))
		registry.MustRegister(c)
		return c
	}
	return &Metrics{
		applies:  watch("applies", "New and changed objects received."),
		deletes:  watch("deletes", "Deleted objects."),
		restarts: watch("restarts", "Complete lists received."),
		errors:   watch("errors", "Objects that could not be used.", "error"),
	}
}

// observer returns what counts the events of a kind's watch.
func (m *Metrics) observer(k *kind) kube.Observer {
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

// collectTimeout is how long a scrape waits for the index's goroutine.
const collectTimeout = time.Second

// gauge describes one of the sizes that an Index shows.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

func inboundGauge(name string) *prometheus.Desc {
	return gauge("inbound_index_"+name+"_index_size", "Objects in the index, by namespace.", "namespace")
}

var (
	servicesGauge     = gauge("outbound_index_service_index_size", "Cluster IPs of Services.")
	serviceInfosGauge = gauge("outbound_index_service_info_index_size", "Services.")
	routesGauge       = gauge("outbound_index_service_route_index_size", "Routes of whole Services, by the Services' namespace.", "namespace")
	portRoutesGauge   = gauge("outbound_index_service_port_route_index_size", "Routes of ports of Services, by the Services' namespace.", "namespace")

	podsGauge      = inboundGauge("pod")
	externalsGauge = inboundGauge("external_workload")
	serversGauge   = inboundGauge("server")
	serverAuthz    = inboundGauge("server_authorization")
	policiesGauge  = inboundGauge("authorization_policy")
	meshTLSGauge   = inboundGauge("meshtls_authentication")
	networksGauge  = inboundGauge("network_authentication")
	httpRouteGauge = inboundGauge("http_route")
)

var _ prometheus.Collector = (*Index)(nil)

// Describe implements prometheus.Collector.
func (x *Index) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		servicesGauge, serviceInfosGauge, routesGauge, portRoutesGauge, podsGauge, externalsGauge, serversGauge, serverAuthz,
		policiesGauge, meshTLSGauge, networksGauge, httpRouteGauge,
	} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector: sizes are counted when somebody asks for them.
func (x *Index) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	var sizes map[*prometheus.Desc]map[string]int
	if err := x.do(ctx, func() { sizes = x.tables.sizes() }); err != nil {
		return
	}
	for d, byNamespace := range sizes {
		for namespace, size := range byNamespace {
			if d == servicesGauge || d == serviceInfosGauge {
				metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(size))
			} else {
				metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(size), namespace)
			}
		}
	}
}

func sizesOf[T any](t table[T]) map[string]int {
	sizes := make(map[string]int, len(t))
	for namespace, objects := range t {
		sizes[namespace] = len(objects)
	}
	return sizes
}

// sizes counts what is in the tables.
func (t *tables) sizes() map[*prometheus.Desc]map[string]int {
	services := 0
	for _, inNamespace := range t.services {
		services += len(inNamespace)
	}
	sizes := map[*prometheus.Desc]map[string]int{
		servicesGauge:     {"": len(t.servicesAt)},
		serviceInfosGauge: {"": services},
		routesGauge:       {},
		portRoutesGauge:   {},
		podsGauge:         {},
		externalsGauge:    {},
		httpRouteGauge:    {},
		serversGauge:      sizesOf(t.servers),
		serverAuthz:       sizesOf(t.serverAuthorizations),
		policiesGauge:     sizesOf(t.authorizationPolicies),
		meshTLSGauge:      sizesOf(t.meshTLS),
		networksGauge:     sizesOf(t.networks),
	}
	for key := range t.workloads {
		if key.External {
			sizes[externalsGauge][key.Namespace]++
		} else {
			sizes[podsGauge][key.Namespace]++
		}
	}
	for key, route := range t.routes {
		if key.kind == core.HTTPRoute {
			sizes[httpRouteGauge][key.id.Namespace]++
		}
		for _, p := range route.Parents {
			switch {
			case p.Kind != core.ParentService:
			case p.Port == 0:
				sizes[routesGauge][p.Namespace]++
			default:
				sizes[portRoutesGauge][p.Namespace]++
			}
		}
	}
	return sizes
}
