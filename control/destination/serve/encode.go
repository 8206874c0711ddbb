package serve

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	httptypespb "github.com/linkerd-go/linkerd-go/api/proto/httptypes"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
)

// encoder turns answers into messages.
type encoder struct {
	// http2 are the parameters for connections to meshed endpoints; nil leaves them to the proxy.
	http2 *destinationpb.Http2ClientParams
}

// updates returns the messages that take a client from what it has, nil for nothing, to a snapshot.
func (e encoder) updates(last, next *core.Snapshot) []*update {
	delta, shared := next.Since(last)
	switch {
	case last == nil:
		return next.AllWire.Get(func() any {
			if len(next.Entries) == 0 {
				// Without a first message the client would give the stream up after three seconds, and one that connects
				// again would keep endpoints that are gone. See the chapter, section 13, item 1.
				return []*update{grpcserve.NewMessage(&destinationpb.Update{Update: &destinationpb.Update_NoEndpoints{
					NoEndpoints: &destinationpb.NoEndpoints{Exists: next.Exists},
				}})}
			}
			return e.delta(next.SetLabels, delta)
		}).([]*update)
	case shared:
		return next.DeltaWire.Get(func() any { return e.delta(next.SetLabels, delta) }).([]*update)
	}
	return e.delta(next.SetLabels, delta)
}

// update is a message of the streams of endpoints, which streams may share.
type update = grpcserve.Message[destinationpb.Update]

// delta returns the additions and then the removals, each only if there are any.
func (e encoder) delta(setLabels map[string]string, delta core.Delta) []*update {
	var updates []*update
	if len(delta.Add) > 0 {
		set := &destinationpb.WeightedAddrSet{MetricLabels: setLabels}
		for _, entry := range delta.Add {
			set.Addrs = append(set.Addrs, e.endpoint(entry.Endpoint, entry.Locality))
		}
		updates = append(updates, grpcserve.NewMessage(&destinationpb.Update{Update: &destinationpb.Update_Add{Add: set}}))
	}
	if len(delta.Remove) > 0 {
		set := &destinationpb.AddrSet{}
		for _, addr := range delta.Remove {
			set.Addrs = append(set.Addrs, tcpAddress(addr))
		}
		updates = append(updates, grpcserve.NewMessage(&destinationpb.Update{Update: &destinationpb.Update_Remove{Remove: set}}))
	}
	return updates
}

func (e encoder) endpoint(from *core.Endpoint, locality core.Locality) *destinationpb.WeightedAddr {
	addr := &destinationpb.WeightedAddr{
		Addr:         tcpAddress(from.Addr),
		Weight:       from.Weight,
		MetricLabels: from.Labels,
		TlsIdentity:  tlsIdentity(from.Identity),
	}
	if locality != core.LocalityNone {
		labels := make(map[string]string, len(from.Labels)+1)
		for k, v := range from.Labels {
			labels[k] = v
		}
		labels["zone_locality"] = locality.String()
		addr.MetricLabels = labels
	}
	if from.Hint != core.HintNone || from.InboundPort != 0 {
		hint := &destinationpb.ProtocolHint{}
		switch from.Hint {
		case core.HintH2:
			hint.Protocol = &destinationpb.ProtocolHint_H2_{H2: &destinationpb.ProtocolHint_H2{}}
		case core.HintOpaque:
			hint.Protocol = &destinationpb.ProtocolHint_Opaque_{Opaque: &destinationpb.ProtocolHint_Opaque{}}
		}
		if from.InboundPort != 0 {
			hint.OpaqueTransport = &destinationpb.ProtocolHint_OpaqueTransport{InboundPort: uint32(from.InboundPort)}
		}
		addr.ProtocolHint = hint
	}
	if from.Authority != "" {
		addr.AuthorityOverride = &destinationpb.AuthorityOverride{AuthorityOverride: from.Authority}
	}
	if from.Meshed {
		addr.Http2 = e.http2
	}
	return addr
}

func tlsIdentity(from core.Identity) *destinationpb.TlsIdentity {
	if from == (core.Identity{}) {
		return nil
	}
	identity := &destinationpb.TlsIdentity{}
	if from.URI != "" {
		identity.Strategy = &destinationpb.TlsIdentity_UriLikeIdentity_{
			UriLikeIdentity: &destinationpb.TlsIdentity_UriLikeIdentity{Uri: from.URI},
		}
	} else {
		identity.Strategy = &destinationpb.TlsIdentity_DnsLikeIdentity_{
			DnsLikeIdentity: &destinationpb.TlsIdentity_DnsLikeIdentity{Name: from.DNS},
		}
	}
	if from.ServerName != "" {
		identity.ServerName = &destinationpb.TlsIdentity_DnsLikeIdentity{Name: from.ServerName}
	}
	return identity
}

func tcpAddress(addr netip.AddrPort) *netpb.TcpAddress {
	ip := &netpb.IPAddress{}
	if addr.Addr().Is4() {
		octets := addr.Addr().As4()
		ip.Ip = &netpb.IPAddress_Ipv4{Ipv4: binary.BigEndian.Uint32(octets[:])}
	} else {
		octets := addr.Addr().As16()
		ip.Ip = &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{
			First: binary.BigEndian.Uint64(octets[:8]), Last: binary.BigEndian.Uint64(octets[8:]),
		}}
	}
	return &netpb.TcpAddress{Ip: ip, Port: uint32(addr.Port())}
}

// profile returns the message of a profile.
func (e encoder) profile(p *core.Profile) *grpcserve.Message[destinationpb.DestinationProfile] {
	return p.Wire.Get(func() any { return grpcserve.NewMessage(e.encodeProfile(p)) }).(*grpcserve.Message[destinationpb.DestinationProfile])
}

func (e encoder) encodeProfile(p *core.Profile) *destinationpb.DestinationProfile {
	if p.Undefined {
		return &destinationpb.DestinationProfile{}
	}
	profile := &destinationpb.DestinationProfile{
		RetryBudget: &destinationpb.RetryBudget{
			RetryRatio:          p.Budget.Ratio,
			MinRetriesPerSecond: p.Budget.MinPerSecond,
			Ttl:                 durationpb.New(p.Budget.TTL),
		},
		OpaqueProtocol: p.Opaque,
	}
	if p.Endpoint != nil {
		profile.Endpoint = e.endpoint(p.Endpoint, core.LocalityNone)
		return profile
	}
	profile.FullyQualifiedName = p.Name
	profile.ParentRef = resource(&metapb.Resource{
		Group: "core", Kind: "Service", Name: p.Service.Name, Namespace: p.Service.Namespace, Port: uint32(p.Port),
	})
	// The kind is empty, as proxies have always been sent it; see the chapter, section 4.2.
	profile.ProfileRef = resource(&metapb.Resource{
		Group: "linkerd.io", Name: p.ServiceProfile.Name, Namespace: p.ServiceProfile.Namespace,
	})
	for i := range p.Routes {
		profile.Routes = append(profile.Routes, route(&p.Routes[i]))
	}
	for _, o := range p.Overrides {
		profile.DstOverrides = append(profile.DstOverrides, &destinationpb.WeightedDst{Authority: o.Authority, Weight: o.Weight})
	}
	return profile
}

func resource(r *metapb.Resource) *metapb.Metadata {
	return &metapb.Metadata{Kind: &metapb.Metadata_Resource{Resource: r}}
}

func route(from *core.Route) *destinationpb.Route {
	to := &destinationpb.Route{
		Condition:     requestMatch(&from.Condition),
		MetricsLabels: map[string]string{"route": from.Name},
		IsRetryable:   from.Retryable,
	}
	for i := range from.Classes {
		to.ResponseClasses = append(to.ResponseClasses, &destinationpb.ResponseClass{
			Condition: responseMatch(&from.Classes[i].Condition), IsFailure: from.Classes[i].IsFailure,
		})
	}
	if from.Timeout != 0 {
		to.Timeout = durationpb.New(from.Timeout)
	}
	return to
}

func requestMatch(from *core.RequestMatch) *destinationpb.RequestMatch {
	list := func(children []core.RequestMatch) *destinationpb.RequestMatch_Seq {
		seq := &destinationpb.RequestMatch_Seq{}
		for i := range children {
			seq.Matches = append(seq.Matches, requestMatch(&children[i]))
		}
		return seq
	}
	to := &destinationpb.RequestMatch{}
	switch {
	case from.All != nil:
		to.Match = &destinationpb.RequestMatch_All{All: list(from.All)}
	case from.Any != nil:
		to.Match = &destinationpb.RequestMatch_Any{Any: list(from.Any)}
	case from.Not != nil:
		to.Match = &destinationpb.RequestMatch_Not{Not: requestMatch(from.Not)}
	case from.Method != "":
		to.Match = &destinationpb.RequestMatch_Method{Method: method(from.Method)}
	default:
		to.Match = &destinationpb.RequestMatch_Path{Path: &destinationpb.PathMatch{Regex: from.Path}}
	}
	return to
}

func method(name string) *httptypespb.HttpMethod {
	if number, ok := httptypespb.HttpMethod_Registered_value[strings.ToUpper(name)]; ok {
		return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: httptypespb.HttpMethod_Registered(number)}}
	}
	return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Unregistered{Unregistered: name}}
}

func responseMatch(from *core.ResponseMatch) *destinationpb.ResponseMatch {
	list := func(children []core.ResponseMatch) *destinationpb.ResponseMatch_Seq {
		seq := &destinationpb.ResponseMatch_Seq{}
		for i := range children {
			seq.Matches = append(seq.Matches, responseMatch(&children[i]))
		}
		return seq
	}
	to := &destinationpb.ResponseMatch{}
	switch {
	case from.All != nil:
		to.Match = &destinationpb.ResponseMatch_All{All: list(from.All)}
	case from.Any != nil:
		to.Match = &destinationpb.ResponseMatch_Any{Any: list(from.Any)}
	case from.Not != nil:
		to.Match = &destinationpb.ResponseMatch_Not{Not: responseMatch(from.Not)}
	default:
		to.Match = &destinationpb.ResponseMatch_Status{Status: &destinationpb.HttpStatusRange{Min: from.Status.Min, Max: from.Status.Max}}
	}
	return to
}
