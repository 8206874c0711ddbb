package injector

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// maxSeries bounds the label sets that are counted one by one. Annotations are free text of the users', so there is no
// other limit to them; beyond it reviews are counted without their annotations.
const maxSeries = 2000

// metrics count reviews. Source: control plane chapter, section 4.8.
type metrics struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	// annotations are those with a label of their own, and labels the names of these.
	annotations []string
	labels      []string

	mu   sync.Mutex // guards seen
	seen map[string]bool
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{seen: map[string]bool{}}
	for _, key := range slices.Concat(names.InheritableAnnotations(), names.PodOnlyAnnotations()) {
		_, name, _ := strings.Cut(key, "/")
		label := strings.ReplaceAll(name, "-", "_")
		// Older spellings of an annotation would give the same label; the newest comes first.
		if key != names.AnnotationInject && !slices.Contains(m.labels, label) {
			m.annotations, m.labels = append(m.annotations, key), append(m.labels, label)
		}
	}
	labels := append([]string{"owner_kind", "namespace", "annotation_at"}, m.labels...)
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "proxy_inject_admission_requests_total",
		Help: "A counter for number of admission requests to proxy injector.",
	}, labels)
	m.responses = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "proxy_inject_admission_responses_total",
		Help: "A counter for number of admission responses from proxy injector.",
	}, append(slices.Clone(labels), "skip", "skip_reason"))
	for _, c := range []prometheus.Collector{m.requests, m.responses} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// request counts a review and returns the values of its labels, to count the response with.
func (m *metrics) request(ownerKind, namespace, annotationAt string, annotations map[string]string) []string {
	values := make([]string, 0, len(m.labels)+5)
	values = append(values, ownerKind, namespace, annotationAt)
	for _, key := range m.annotations {
		values = append(values, annotations[key])
	}
	if !m.admit(strings.Join(values, "\xff")) {
		clear(values[3:])
	}
	m.requests.WithLabelValues(values...).Inc()
	return values
}

// admit reports whether a label set may have a series of its own.
func (m *metrics) admit(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.seen[key] {
		if len(m.seen) >= maxSeries {
			return false
		}
		m.seen[key] = true
	}
	return true
}

func (m *metrics) response(request []string, skip bool, reasons string) {
	m.responses.WithLabelValues(append(request, strconv.FormatBool(skip), reasons)...).Inc()
}
