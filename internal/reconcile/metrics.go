package reconcile

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// Metrics counts what queues do, by their names. Source: control plane chapter, section 9. A nil *Metrics counts nothing.
type Metrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries, drops       *prometheus.CounterVec
	waited, worked             *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	name := []string{"name"}
	gauge := func(metric, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "workqueue_" + metric, Help: help}, name)
	}
	counter := func(metric, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "workqueue_" + metric, Help: help}, name)
	}
	histogram := func(metric, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "workqueue_" + metric, Help: help, Buckets: prometheus.ExponentialBuckets(1e-6, 10, 10),
		}, name)
	}
	m := &Metrics{
		depth:      gauge("depth", "Items that wait."),
		unfinished: gauge("unfinished_work_seconds", "Time that items in work have taken so far, together."),
		longest:    gauge("longest_running_processor_seconds", "Time that the oldest item in work has taken so far."),
		adds:       counter("adds_total", "Items added."),
		retries:    counter("retries_total", "Items added again after a failure."),
		drops:      counter("drops_total", "Items given up."),
		waited:     histogram("queue_duration_seconds", "Time that items waited."),
		worked:     histogram("work_duration_seconds", "Time that items took."),
	}
	registerer.MustRegister(m.depth, m.unfinished, m.longest, m.adds, m.retries, m.drops, m.waited, m.worked)
	return m
}

func (m *Metrics) dropped(name string) {
	if m != nil {
		m.drops.WithLabelValues(name).Inc()
	}
}

// provider gives the metrics to client-go's queue; nil if there are none.
func (m *Metrics) provider() workqueue.MetricsProvider {
	if m == nil {
		return nil
	}
	return provider{m}
}

// provider is a workqueue.MetricsProvider.
type provider struct{ m *Metrics }

func (p provider) NewDepthMetric(name string) workqueue.GaugeMetric {
	return p.m.depth.WithLabelValues(name)
}
func (p provider) NewAddsMetric(name string) workqueue.CounterMetric {
	return p.m.adds.WithLabelValues(name)
}
func (p provider) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return p.m.waited.WithLabelValues(name)
}
func (p provider) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return p.m.worked.WithLabelValues(name)
}
func (p provider) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return p.m.unfinished.WithLabelValues(name)
}
func (p provider) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return p.m.longest.WithLabelValues(name)
}
func (p provider) NewRetriesMetric(name string) workqueue.CounterMetric {
	return p.m.retries.WithLabelValues(name)
}
