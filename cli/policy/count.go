package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/linkerd-go/linkerd-go/internal/scrape"
)

// traffic is what the proxies of a workload have counted at one port. Sources
// are the families of the proxy chapter, sections 23.2, 23.6 and 23.8; those of
// authorizations never expire, so that they reach back to the proxy's start.
type traffic struct {
	clients
	// requests and connections were let in.
	requests, connections float64
	// refused were not.
	refused clients
	// http1, http2 and other are results of detection.
	http1, http2, other float64
	// calls and others are responses with and without a gRPC status.
	calls, others float64
	// sni counts connections in TLS that is the application's own.
	sni float64
	// routes has the clients of the routes that users have made.
	routes map[routeRef]*clients
}

// clients are who was let in, with how often.
type clients struct {
	identities map[string]float64
	// unmeshed have no identity.
	unmeshed float64
}

// routeRef names a route.
type routeRef struct{ group, kind, name string }

func (c *clients) add(labels map[string]string, n float64) {
	if id := labels["client_id"]; labels["tls"] == "true" && id != "" {
		if c.identities == nil {
			c.identities = map[string]float64{}
		}
		c.identities[id] += n
		return
	}
	c.unmeshed += n
}

// any reports whether there is anybody.
func (c *clients) any() bool { return len(c.identities) > 0 || c.unmeshed > 0 }

// names are the identities, in order.
func (c *clients) names() []string {
	var names []string
	for name := range c.identities {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// seen reports whether anything was let in.
func (t *traffic) seen() bool { return t.requests > 0 || t.connections > 0 }

// Names of what proxies let in without a policy of a user's.
const (
	probe     = "probe"
	localhost = "localhost"
	loopback  = "loopback"
)

// count adds the samples of one proxy to the traffic of its ports.
func count(ports map[uint16]*traffic, samples []scrape.Sample) error {
	at := func(label, value string) (*traffic, error) {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("label %s=%q is not a port", label, value)
		}
		t := ports[uint16(n)]
		if t == nil {
			t = &traffic{routes: map[routeRef]*clients{}}
			ports[uint16(n)] = t
		}
		return t, nil
	}
	for _, s := range samples {
		l := s.Labels
		if s.Value == 0 || l["route_kind"] == "default" && l["route_name"] == probe ||
			l["authz_kind"] == "default" && l["authz_name"] == localhost || l["no_tls_reason"] == loopback {
			continue
		}
		label := "target_port"
		switch s.Name {
		case "inbound_http_authz_allow_total", "inbound_tcp_authz_allow_total", "inbound_http_authz_deny_total", "inbound_tcp_authz_deny_total":
		case "inbound_tcp_detect_http_results_total", "inbound_tcp_detect_http_results":
			label = "srv_port"
		case "response_total":
			if l["direction"] != "inbound" {
				continue
			}
		default:
			continue
		}
		t, err := at(label, l[label])
		if err != nil {
			return fmt.Errorf("metric %s: %w", s.Name, err)
		}
		switch s.Name {
		case "inbound_http_authz_allow_total":
			t.requests += s.Value
			t.add(l, s.Value)
			if l["route_kind"] != "default" && l["route_name"] != "" {
				ref := routeRef{l["route_group"], l["route_kind"], l["route_name"]}
				if t.routes[ref] == nil {
					t.routes[ref] = &clients{}
				}
				t.routes[ref].add(l, s.Value)
			}
		case "inbound_tcp_authz_allow_total":
			t.connections += s.Value
			t.add(l, s.Value)
			if l["tls"] == "opaque" {
				t.sni += s.Value
			}
		case "inbound_http_authz_deny_total", "inbound_tcp_authz_deny_total":
			t.refused.add(l, s.Value)
		case "response_total":
			switch {
			case l["grpc_status"] != "":
				t.calls += s.Value
			case l["classification"] == "success" && l["error"] == "":
				t.others += s.Value
			}
		default:
			switch l["result"] {
			case "http/1":
				t.http1 += s.Value
			case "http/2":
				t.http2 += s.Value
			case "not_http":
				t.other += s.Value
			}
		}
	}
	return nil
}

// protocol returns the proxyProtocol of a Server for the port, and what there is
// to say about it. kept is that of a Server that was generated before, probed
// says that the kubelet's probes come to the port in HTTP/1.
//
// A proxyProtocol other than unknown shuts out what was not seen, so that it is
// proposed only where what was seen leaves no doubt: HTTP/1 travels between
// proxies in HTTP/2, and a port that saw only that may be of either.
func (t *traffic) protocol(kept string, probed bool) (name, why string) {
	switch {
	case kept != "":
		// What was seen since got through with it.
		return kept, ""
	case t.requests > 0 && t.connections > 0:
		// Also of clients that connect before they have something to ask for.
		return "unknown", "connections without HTTP were seen too, so that the protocol stays detected"
	case t.connections > 0 && t.sni == t.connections:
		return "TLS", ""
	case t.connections > 0:
		return "opaque", ""
	case t.calls > 0 && t.others == 0 && !probed:
		return "gRPC", ""
	case t.http1 > 0 && t.http2 == 0:
		return "HTTP/1", ""
	case t.http2 > 0 && t.http1 == 0:
		return "unknown", "only HTTP/2 was seen, in which proxies carry HTTP/1 too, so that the protocol stays detected"
	}
	return "unknown", ""
}

// what says in a word what the port speaks.
func (t *traffic) what() string {
	switch {
	case t.requests > 0 && t.connections > 0:
		return "HTTP and other protocols"
	case t.connections > 0 && t.sni == t.connections:
		return "TLS"
	case t.connections > 0:
		return "TCP"
	case t.calls > 0 && t.others == 0:
		return "gRPC"
	case t.calls > 0:
		return "HTTP and gRPC"
	}
	return "HTTP"
}

// byCount are identities with the most frequent first.
func (c *clients) byCount() []string {
	names := c.names()
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(c.identities[b], c.identities[a]) })
	return names
}
