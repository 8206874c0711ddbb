package status

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what a Writer does. Its zero pointer counts nothing. The metrics of a queue are always 0, as there is
// none; they are there because dashboards ask for them. Source: control plane chapter, section 8.
type Metrics struct {
	patches, apiErrors, timeouts prometheus.Counter
	duration                     prometheus.Histogram
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "resource_status_" + name + "_total", Help: help})
		registry.MustRegister(c)
		return c
	}
	m := &Metrics{
		patches:   counter("patches", "Statuses written."),
		apiErrors: counter("patch_api_errors", "Statuses that the API server refused."),
		timeouts:  counter("patch_timeouts", "Statuses that could not be written in time."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "resource_status_patch_duration_seconds",
			Help:    "Time to write a status.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
		}),
	}
	registry.MustRegister(m.duration)
	counter("patch_dequeues", "Statuses taken from a queue; there is no queue.")
	counter("patch_drops", "Statuses dropped because the process does not lead; none are.")
	counter("patch_enqueues", "Statuses put in a queue; there is no queue.")
	counter("patch_enqueue_overflows", "Statuses lost because a queue was full; none are.")
	return m
}

func (m *Metrics) patched(took time.Duration, err error) {
	if m == nil {
		return
	}
	switch {
	case err == nil:
		m.patches.Inc()
		m.duration.Observe(took.Seconds())
	case errors.Is(err, context.DeadlineExceeded):
		m.timeouts.Inc()
	default:
		m.apiErrors.Inc()
	}
}
