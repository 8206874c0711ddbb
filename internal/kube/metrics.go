package kube

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The requests to the API server, by the client that makes them. Source: control plane chapter, section 10.
var (
	clientInFlight = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Name: "http_client_in_flight_requests",
		Help: "Requests to the Kubernetes API that have no response yet.",
	}, []string{"client"})
	clientRequests = promauto.NewCounterVec(prometheus.CounterOpts{
		Name: "http_client_requests_total",
		Help: "Requests made to the Kubernetes API.",
	}, []string{"client", "code", "method"})
	clientLatency = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "http_client_request_latency_seconds",
		Help:    "Time until the Kubernetes API answered.",
		Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 5, 30, 300},
	}, []string{"client", "code", "method"})
)

// instrument counts the requests of one client.
func instrument(client string) func(http.RoundTripper) http.RoundTripper {
	labels := prometheus.Labels{"client": client}
	return func(next http.RoundTripper) http.RoundTripper {
		return promhttp.InstrumentRoundTripperInFlight(clientInFlight.With(labels),
			promhttp.InstrumentRoundTripperCounter(clientRequests.MustCurryWith(labels),
				promhttp.InstrumentRoundTripperDuration(clientLatency.MustCurryWith(labels), next)))
	}
}
