package cnirepair

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const metricPrefix = "linkerd_cni_repair_controller_"

var latencyBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// metrics of a controller. Source: proxy chapter, section 26.4, names included.
type metrics struct {
	overflows prometheus.Counter
	deleted   prometheus.Counter
	deletes   requestMetrics
	events    requestMetrics
}

// requestMetrics are those of one kind of request.
type requestMetrics struct {
	latency  prometheus.Histogram
	errors   prometheus.Counter
	timeouts prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: metricPrefix + name, Help: help, Buckets: latencyBuckets})
	}
	return &metrics{
		overflows: counter("queue_overflow_total", "Pods that were not queued for deletion because the queue was full."),
		deleted:   counter("pods_deleted_total", "Pods deleted because their traffic was not redirected."),
		deletes: requestMetrics{
			latency:  histogram("pods_delete_latency_seconds", "Time that successful deletions of pods took."),
			errors:   counter("pods_delete_errors_total", "Deletions of pods that failed."),
			timeouts: counter("pods_delete_timeout_total", "Deletions of pods that were not answered in time."),
		},
		events: requestMetrics{
			latency:  histogram("events_publish_latency_seconds", "Time that successful publications of events took."),
			errors:   counter("events_publish_errors_total", "Publications of events that failed."),
			timeouts: counter("events_publish_timeouts_total", "Publications of events that were not answered in time."),
		},
	}
}

func (m *metrics) register(to prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		m.overflows, m.deleted,
		m.deletes.latency, m.deletes.errors, m.deletes.timeouts,
		m.events.latency, m.events.errors, m.events.timeouts,
	} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("registering the metrics of the repair controller: %w", err)
		}
	}
	return nil
}
