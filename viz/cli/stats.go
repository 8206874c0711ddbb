package cli

import (
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/internal/scrape"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// key identifies a series.
func key(s scrape.Sample) string {
	names := make([]string, 0, len(s.Labels))
	for k := range s.Labels {
		names = append(names, k)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString(s.Name)
	for _, k := range names {
		b.WriteByte(0)
		b.WriteString(k)
		b.WriteByte(1)
		b.WriteString(s.Labels[k])
	}
	return b.String()
}

// stats are the golden metrics of one row, all per second.
type stats struct {
	success, failure float64
	buckets          map[float64]float64
	open             float64
	read, write      float64
	allowed, denied  float64
}

// requests reports whether there is request data at all.
func (s *stats) requests() bool { return s != nil && s.success+s.failure > 0 }

func (s *stats) rate() float64 { return s.success + s.failure }

func (s *stats) successRate() float64 { return s.success / s.rate() }

// latency returns a quantile in whole milliseconds.
func (s *stats) latency(q float64) uint64 {
	buckets := make([]scrape.Bucket, 0, len(s.buckets))
	for bound, count := range s.buckets {
		buckets = append(buckets, scrape.Bucket{UpperBound: bound, Count: count})
	}
	v := scrape.Quantile(q, buckets)
	if math.IsNaN(v) || v < 0 {
		return 0
	}
	return uint64(math.Round(v))
}

// labelOf is the name of the label that carries a resource type.
func labelOf(kind string) string {
	if kind == workload.Job {
		return "k8s_job"
	}
	return kind
}

// query says which series of a proxy count, and into which row each goes.
type query struct {
	// direction of the requests, "inbound" or "outbound".
	direction string
	// peer is the side on which bytes are counted, anySide for connections too
	// when connections are counted on one side only.
	peer     string
	openPeer string
	// row returns the key of the row a series belongs to; false leaves it out.
	row func(pod *corev1.Pod, labels map[string]string) (string, bool)
}

// apply sums the series of the observations by row.
func (q query) apply(observations []observation) map[string]*stats {
	rows := map[string]*stats{}
	at := func(o observation, s scrape.Sample) *stats {
		if d := s.Labels["direction"]; d != "" && d != q.direction || s.Labels["target_port"] == adminPort(o.pod) && q.direction == "inbound" {
			// Scrapes and probes of the proxy itself are not the workload's traffic.
			return nil
		}
		row, ok := q.row(o.pod, s.Labels)
		if !ok {
			return nil
		}
		if rows[row] == nil {
			rows[row] = &stats{buckets: map[float64]float64{}}
		}
		return rows[row]
	}
	for _, o := range observations {
		for _, s := range o.rates {
			switch s.Name {
			case "response_total":
				if r := at(o, s); r != nil {
					if s.Labels["classification"] == "success" {
						r.success += s.Value
					} else {
						r.failure += s.Value
					}
				}
			case "response_latency_ms_bucket":
				if r := at(o, s); r != nil {
					if bound, err := strconv.ParseFloat(s.Labels["le"], 64); err == nil {
						r.buckets[bound] += s.Value
					}
				}
			case "tcp_read_bytes_total":
				if r := at(o, s); r != nil && s.Labels["peer"] == q.peer {
					r.read += s.Value
				}
			case "tcp_write_bytes_total":
				if r := at(o, s); r != nil && s.Labels["peer"] == q.peer {
					r.write += s.Value
				}
			case "inbound_http_authz_allow_total":
				if r := at(o, s); r != nil {
					r.allowed += s.Value
				}
			case "inbound_http_authz_deny_total":
				if r := at(o, s); r != nil {
					r.denied += s.Value
				}
			}
		}
		for _, s := range o.gauges {
			if s.Name == "tcp_open_connections" && (q.openPeer == "" || s.Labels["peer"] == q.openPeer) {
				if r := at(o, s); r != nil {
					r.open += s.Value
				}
			}
		}
	}
	return rows
}

func adminPort(pod *corev1.Pod) string { return strconv.Itoa(int(workload.AdminPort(pod))) }

// ofWorkload counts what arrives at the pods of a type, by object. The kubelet's
// probes are not traffic: of a workload with little of it they would be most, and
// those that find the application not yet started would be failures.
func ofWorkload(x *workload.Index, kind string) query {
	return query{direction: "inbound", peer: "src", row: func(pod *corev1.Pod, labels map[string]string) (string, bool) {
		name := x.Owned(pod, kind)
		return rowKey(kind, pod.Namespace, name), name != "" && !isProbe(labels)
	}}
}

// isProbe reports whether a series is of the route that lets the kubelet's probes
// in (control-plane chapter, section 7.2).
func isProbe(labels map[string]string) bool {
	return labels["route_kind"] == "default" && labels["route_name"] == "probe"
}

// end is the other side of traffic.
type end struct {
	kind, name, namespace string
}

// toDestination counts what the pods of a type send to a destination.
func toDestination(x *workload.Index, kind string, to end) query {
	return query{direction: "outbound", peer: "dst", row: func(pod *corev1.Pod, labels map[string]string) (string, bool) {
		name := x.Owned(pod, kind)
		if name == "" || !isDestination(labels, to) {
			return "", false
		}
		return rowKey(kind, pod.Namespace, name), true
	}}
}

func isDestination(labels map[string]string, to end) bool {
	if to.kind == workload.Namespace {
		namespace := to.name
		if namespace == "" {
			namespace = to.namespace
		}
		return labels["dst_namespace"] == namespace
	}
	value := labels["dst_"+labelOf(to.kind)]
	return value != "" && (to.name == "" || value == to.name) && (to.namespace == "" || labels["dst_namespace"] == to.namespace)
}

// fromSource counts what a source sends to the objects of a type, by object.
func fromSource(x *workload.Index, kind string, from end) query {
	return query{direction: "outbound", peer: "dst", row: func(pod *corev1.Pod, labels map[string]string) (string, bool) {
		if from.namespace != "" && from.kind != workload.Namespace && pod.Namespace != from.namespace {
			return "", false
		}
		source := x.Owned(pod, from.kind)
		if source == "" || from.name != "" && source != from.name {
			return "", false
		}
		if kind == workload.Namespace {
			namespace := labels["dst_namespace"]
			return rowKey(kind, "", namespace), namespace != ""
		}
		name := labels["dst_"+labelOf(kind)]
		return rowKey(kind, labels["dst_namespace"], name), name != ""
	}}
}

// ofService counts what anybody sends to a Service, by the authority of the
// requests. from may be nil.
func ofService(x *workload.Index, domain string, from *end) query {
	authority := regexp.MustCompile(`^([^.:]+)\.([^.:]+)\.svc(\.` + regexp.QuoteMeta(domain) + `.*|:\d+)?$`)
	return query{direction: "outbound", peer: "dst", openPeer: "dst", row: func(pod *corev1.Pod, labels map[string]string) (string, bool) {
		if from != nil {
			source := x.Owned(pod, from.kind)
			if source == "" || from.name != "" && source != from.name || from.namespace != "" && pod.Namespace != from.namespace {
				return "", false
			}
		}
		m := authority.FindStringSubmatch(labels["authority"])
		if m == nil {
			return "", false
		}
		return rowKey(workload.Service, m[2], m[1]), true
	}}
}

// ofPolicy counts by the policy resources that decided: the labels of a
// series name kind and resource.
func ofPolicy(kind string) query {
	return query{direction: "inbound", peer: "src", openPeer: "src", row: func(pod *corev1.Pod, labels map[string]string) (string, bool) {
		switch kind {
		case "server":
			return rowKey(kind, pod.Namespace, labels["srv_name"]), labels["srv_kind"] == "server"
		case "httproute":
			return rowKey(kind, pod.Namespace, labels["route_name"]), strings.EqualFold(labels["route_kind"], "httproute")
		default:
			return rowKey(kind, pod.Namespace, labels["authz_name"]), labels["authz_kind"] == kind
		}
	}}
}

func rowKey(kind, namespace, name string) string {
	if kind == workload.Namespace {
		namespace = ""
	}
	return fmt.Sprintf("%s/%s/%s", kind, namespace, name)
}
