package serve

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	grpcroutepb "github.com/linkerd-go/linkerd-go/api/proto/grpcroute"
	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// detectTimeout is how long a proxy waits for bytes that tell the protocol. Source: proxy API chapter, section 5.1.
const detectTimeout = 10 * time.Second

// Inbound encodes what a proxy lets in at a port.
func Inbound(server *core.InboundServer) *inboundpb.Server {
	return &inboundpb.Server{
		Protocol:       inboundProtocol(server),
		Authorizations: authorizations(server.Authorizations),
		Labels:         labels(server.Ref),
	}
}

func inboundProtocol(server *core.InboundServer) *inboundpb.ProxyProtocol {
	limit := rateLimit(server.RateLimit)
	switch server.Protocol {
	case core.ProtocolHTTP1:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Http1_{Http1: &inboundpb.ProxyProtocol_Http1{
			Routes: inboundHTTPRoutes(server.HTTPRoutes), LocalRateLimit: limit,
		}}}
	case core.ProtocolHTTP2:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Http2_{Http2: &inboundpb.ProxyProtocol_Http2{
			Routes: inboundHTTPRoutes(server.HTTPRoutes), LocalRateLimit: limit,
		}}}
	case core.ProtocolGRPC:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Grpc_{Grpc: &inboundpb.ProxyProtocol_Grpc{
			Routes: inboundGRPCRoutes(server.GRPCRoutes), LocalRateLimit: limit,
		}}}
	case core.ProtocolOpaque:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Opaque_{Opaque: &inboundpb.ProxyProtocol_Opaque{}}}
	case core.ProtocolTLS:
		return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Tls_{Tls: &inboundpb.ProxyProtocol_Tls{}}}
	}
	return &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Detect_{Detect: &inboundpb.ProxyProtocol_Detect{
		Timeout: durationpb.New(detectTimeout), HttpRoutes: inboundHTTPRoutes(server.HTTPRoutes), HttpLocalRateLimit: limit,
	}}}
}

// labels are the older form of metadata.
func labels(ref core.Ref) map[string]string {
	if ref.Default != "" {
		return map[string]string{"group": "", "kind": "default", "name": ref.Default}
	}
	return map[string]string{"group": ref.Group, "kind": ref.Kind, "name": ref.Name}
}

func metadata(ref core.Ref) *metapb.Metadata {
	if ref.Default != "" {
		return &metapb.Metadata{Kind: &metapb.Metadata_Default{Default: ref.Default}}
	}
	return &metapb.Metadata{Kind: &metapb.Metadata_Resource{Resource: &metapb.Resource{
		Group: ref.Group, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Port: uint32(ref.Port),
	}}}
}

func ip(addr netip.Addr) *netpb.IPAddress {
	if addr.Unmap().Is4() {
		b := addr.Unmap().As4()
		return &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])}}
	}
	b := addr.As16()
	half := func(b []byte) (n uint64) {
		for _, octet := range b {
			n = n<<8 | uint64(octet)
		}
		return n
	}
	return &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{First: half(b[:8]), Last: half(b[8:])}}}
}

func network(prefix netip.Prefix) *netpb.IPNetwork {
	return &netpb.IPNetwork{Ip: ip(prefix.Addr()), PrefixLen: uint32(prefix.Bits())}
}

func authorizations(list []core.Authorization) []*inboundpb.Authz {
	var encoded []*inboundpb.Authz
	for _, a := range list {
		authz := &inboundpb.Authz{Authentication: authentication(a.Clients), Labels: labels(a.Ref), Metadata: metadata(a.Ref)}
		for _, n := range a.Networks {
			net := &inboundpb.Network{Net: network(n.CIDR)}
			for _, hole := range n.Except {
				net.Except = append(net.Except, network(hole))
			}
			authz.Networks = append(authz.Networks, net)
		}
		encoded = append(encoded, authz)
	}
	return encoded
}

func authentication(clients core.Clients) *inboundpb.Authn {
	if !clients.TLS {
		return &inboundpb.Authn{Permit: &inboundpb.Authn_Unauthenticated{Unauthenticated: &inboundpb.Authn_PermitUnauthenticated{}}}
	}
	tls := &inboundpb.Authn_PermitMeshTLS{}
	if clients.Anonymous {
		tls.Clients = &inboundpb.Authn_PermitMeshTLS_Unauthenticated{Unauthenticated: &inboundpb.Authn_PermitUnauthenticated{}}
	} else {
		permitted := &inboundpb.Authn_PermitMeshTLS_PermitClientIdentities{}
		for _, identity := range clients.Identities {
			name, suffix, isSuffix := core.SplitIdentity(identity)
			if isSuffix {
				permitted.Suffixes = append(permitted.Suffixes, &inboundpb.IdentitySuffix{Parts: suffix})
			} else {
				permitted.Identities = append(permitted.Identities, &inboundpb.Identity{Name: name})
			}
		}
		tls.Clients = &inboundpb.Authn_PermitMeshTLS_Identities{Identities: permitted}
	}
	return &inboundpb.Authn{Permit: &inboundpb.Authn_MeshTLS{MeshTLS: tls}}
}

func rateLimit(limit *core.RateLimit) *inboundpb.HttpLocalRateLimit {
	if limit == nil {
		return nil
	}
	rate := func(n uint32) *inboundpb.HttpLocalRateLimit_Limit {
		if n == 0 {
			return nil
		}
		return &inboundpb.HttpLocalRateLimit_Limit{RequestsPerSecond: limit.Share(n)}
	}
	encoded := &inboundpb.HttpLocalRateLimit{
		Metadata: metadata(core.Ref{Group: core.GroupPolicy, Kind: "HTTPLocalRateLimitPolicy", Name: limit.Name}),
		Total:    rate(limit.Total),
		Identity: rate(limit.Identity),
		Replicas: limit.Replicas,
	}
	if limit.Burst != 0 {
		encoded.Burst = durationpb.New(limit.Burst)
	}
	for _, o := range limit.Overrides {
		clients := &inboundpb.HttpLocalRateLimit_Override_ClientIdentities{}
		for _, identity := range o.Identities {
			clients.Identities = append(clients.Identities, &inboundpb.Identity{Name: identity})
		}
		encoded.Overrides = append(encoded.Overrides, &inboundpb.HttpLocalRateLimit_Override{
			Limit: rate(o.RequestsPerSecond), Clients: clients,
		})
	}
	return encoded
}

func inboundHTTPRoutes(list []core.InboundRoute) []*inboundpb.HttpRoute {
	var encoded []*inboundpb.HttpRoute
	for _, r := range list {
		route := &inboundpb.HttpRoute{Metadata: metadata(r.Ref), Hosts: hosts(r.Hosts), Authorizations: authorizations(r.Authorizations)}
		for _, rule := range r.Rules {
			encodedRule := &inboundpb.HttpRoute_Rule{Matches: httpMatches(rule.HTTP)}
			for _, f := range rule.Filters {
				encodedRule.Filters = append(encodedRule.Filters, inboundHTTPFilter(f))
			}
			route.Rules = append(route.Rules, encodedRule)
		}
		encoded = append(encoded, route)
	}
	return encoded
}

func inboundGRPCRoutes(list []core.InboundRoute) []*inboundpb.GrpcRoute {
	var encoded []*inboundpb.GrpcRoute
	for _, r := range list {
		route := &inboundpb.GrpcRoute{Metadata: metadata(r.Ref), Hosts: hosts(r.Hosts), Authorizations: authorizations(r.Authorizations)}
		for _, rule := range r.Rules {
			encodedRule := &inboundpb.GrpcRoute_Rule{Matches: grpcMatches(rule.GRPC)}
			for _, f := range rule.Filters {
				encodedRule.Filters = append(encodedRule.Filters, inboundGRPCFilter(f))
			}
			route.Rules = append(route.Rules, encodedRule)
		}
		encoded = append(encoded, route)
	}
	return encoded
}

// inboundHTTPFilter encodes a filter. Upstream's API has fewer of them inbound: the others are extensions of ours, as outbound,
// and mirrors do not get here.
func inboundHTTPFilter(f core.Filter) *inboundpb.HttpRoute_Filter {
	filter := &inboundpb.HttpRoute_Filter{
		Kind: &inboundpb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &httproutepb.RequestHeaderModifier{}},
	}
	switch {
	case f.RequestHeaders != nil:
		filter.Kind = &inboundpb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: requestHeaders(f.RequestHeaders)}
	case f.ResponseHeaders != nil:
		filter.ResponseHeaderModifier = responseHeaders(f.ResponseHeaders)
	case f.Redirect != nil:
		filter.Kind = &inboundpb.HttpRoute_Filter_Redirect{Redirect: redirect(f.Redirect)}
	case f.Rewrite != nil:
		filter.UrlRewrite = urlRewrite(f.Rewrite)
		filter.Kind = &inboundpb.HttpRoute_Filter_FailureInjector{FailureInjector: cannotRewrite()}
	case f.CORS != nil:
		filter.Cors = cors(f.CORS)
	case f.Delay != nil:
		filter.Delay = delay(f.Delay)
	case f.Fail != nil:
		filter.Kind = &inboundpb.HttpRoute_Filter_FailureInjector{FailureInjector: httpFailure(f.Fail)}
	}
	return filter
}

// inboundGRPCFilter is inboundHTTPFilter for gRPC.
func inboundGRPCFilter(f core.Filter) *inboundpb.GrpcRoute_Filter {
	filter := &inboundpb.GrpcRoute_Filter{
		Kind: &inboundpb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &httproutepb.RequestHeaderModifier{}},
	}
	switch {
	case f.RequestHeaders != nil:
		filter.Kind = &inboundpb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: requestHeaders(f.RequestHeaders)}
	case f.ResponseHeaders != nil:
		filter.ResponseHeaderModifier = responseHeaders(f.ResponseHeaders)
	case f.Delay != nil:
		filter.Delay = delay(f.Delay)
	case f.Fail != nil:
		filter.Kind = &inboundpb.GrpcRoute_Filter_FailureInjector{FailureInjector: grpcFailure(f.Fail)}
	}
	return filter
}

func grpcMatches(list []core.GRPCMatch) []*grpcroutepb.GrpcRouteMatch {
	var encoded []*grpcroutepb.GrpcRouteMatch
	for _, m := range list {
		encoded = append(encoded, &grpcroutepb.GrpcRouteMatch{
			// Proxies refuse a match without this part, so that it is there even if it matches everything.
			Rpc:     &grpcroutepb.GrpcRpcMatch{Service: m.Service, Method: m.Method},
			Headers: headerMatches(m.Headers),
		})
	}
	return encoded
}

func headerMatches(list []core.ValueMatch) []*httproutepb.HeaderMatch {
	var encoded []*httproutepb.HeaderMatch
	for _, m := range list {
		match := &httproutepb.HeaderMatch{Name: m.Name}
		if m.Regex {
			match.Value = &httproutepb.HeaderMatch_Regex{Regex: m.Value}
		} else {
			match.Value = &httproutepb.HeaderMatch_Exact{Exact: []byte(m.Value)}
		}
		encoded = append(encoded, match)
	}
	return encoded
}
