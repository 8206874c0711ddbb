package decode

import (
	"fmt"
	"slices"
	"strings"
	"time"

	inboundpb "github.com/linkerd-go/linkerd-go/api/lean/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// unknownFilter is what clients get whose request runs into a filter that this
// proxy does not know.
const unknownFilter = "unknown filter"

// Server decodes the policy of a port (proxy API chapter, section 5.8). If it
// breaks a rule the error says which, and the policy is an invalid one with the
// given detection timeout.
func Server(s *inboundpb.Server, detect time.Duration) (*model.ServerPolicy, error) {
	p, err := server(s)
	if err != nil {
		return model.InvalidServerPolicy(detect, err.Error()), fmt.Errorf("invalid server policy: %w", err)
	}
	return p, nil
}

func server(s *inboundpb.Server) (*model.ServerPolicy, error) {
	meta, err := labelMeta(s.GetLabels(), "server")
	if err != nil {
		return nil, err
	}
	p := &model.ServerPolicy{Meta: meta}
	if p.Authorizations, err = each(s.GetAuthorizations(), authorization); err != nil {
		return nil, err
	}
	// Clients on the pod's own loopback interface are always let in.
	p.Authorizations = append(p.Authorizations, model.LocalhostAuthorization())

	switch k := s.GetProtocol().GetKind().(type) {
	case *inboundpb.ProxyProtocol_Detect_:
		p.Protocol = model.ProtocolDetect
		if p.DetectTimeout, err = duration(k.Detect.GetTimeout(), "detect timeout"); err != nil {
			return nil, err
		}
		err = http(p, k.Detect.GetHttpRoutes(), k.Detect.GetHttpLocalRateLimit())
	case *inboundpb.ProxyProtocol_Http1_:
		p.Protocol = model.ProtocolHTTP1
		err = http(p, k.Http1.GetRoutes(), k.Http1.GetLocalRateLimit())
	case *inboundpb.ProxyProtocol_Http2_:
		p.Protocol = model.ProtocolHTTP2
		err = http(p, k.Http2.GetRoutes(), k.Http2.GetLocalRateLimit())
	case *inboundpb.ProxyProtocol_Grpc_:
		p.Protocol = model.ProtocolGRPC
		p.Routes.GRPC = true
		if p.Routes.List, err = each(k.Grpc.GetRoutes(), inboundGRPCRoute); err == nil {
			p.RateLimit, err = rateLimit(k.Grpc.GetLocalRateLimit())
		}
		if len(p.Routes.List) == 0 {
			p.Routes.List = []model.Route{{Meta: model.Default("default"), Rules: []model.Rule{{}}}}
		}
	case *inboundpb.ProxyProtocol_Opaque_:
		p.Protocol = model.ProtocolOpaque
	case *inboundpb.ProxyProtocol_Tls_:
		p.Protocol = model.ProtocolTLS
	default:
		return nil, missing("protocol")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func http(p *model.ServerPolicy, routes []*inboundpb.HttpRoute, limit *inboundpb.HttpLocalRateLimit) (err error) {
	if p.Routes.List, err = each(routes, inboundHTTPRoute); err != nil {
		return err
	}
	if len(p.Routes.List) == 0 {
		p.Routes = model.DefaultRoutes()
	}
	p.RateLimit, err = rateLimit(limit)
	return err
}

func authorization(a *inboundpb.Authz) (out model.Authorization, err error) {
	if a.GetMetadata() != nil {
		out.Meta, err = inboundMeta(a.GetMetadata())
	} else {
		out.Meta, err = labelMeta(a.GetLabels(), "serverauthorization")
	}
	if err != nil {
		return out, fmt.Errorf("authorization: %w", err)
	}
	if len(a.GetNetworks()) == 0 {
		return out, missing("networks of authorization " + out.Meta.Name)
	}
	for _, n := range a.GetNetworks() {
		net, err := network(n.GetNet())
		if err != nil {
			return out, fmt.Errorf("authorization %s: %w", out.Meta.Name, err)
		}
		except, err := each(n.GetExcept(), network)
		if err != nil {
			return out, fmt.Errorf("authorization %s: exception: %w", out.Meta.Name, err)
		}
		out.Networks = append(out.Networks, model.Network{Net: net, Except: except})
	}
	switch permit := a.GetAuthentication().GetPermit().(type) {
	case *inboundpb.Authn_Unauthenticated:
		out.Authn.Kind = model.AuthnNone
	case *inboundpb.Authn_MeshTLS:
		switch c := permit.MeshTLS.GetClients().(type) {
		case *inboundpb.Authn_PermitMeshTLS_Unauthenticated:
			out.Authn.Kind = model.AuthnTLS
		case *inboundpb.Authn_PermitMeshTLS_Identities:
			out.Authn.Kind = model.AuthnIdentity
			if out.Authn.Identities, err = each(c.Identities.GetIdentities(), identity); err != nil {
				return out, fmt.Errorf("authorization %s: %w", out.Meta.Name, err)
			}
			for _, s := range c.Identities.GetSuffixes() {
				out.Authn.Suffixes = append(out.Authn.Suffixes, strings.ToLower(strings.Join(s.GetParts(), ".")))
			}
		default:
			return out, missing("clients of authorization " + out.Meta.Name)
		}
	default:
		return out, missing("authentication of authorization " + out.Meta.Name)
	}
	return out, nil
}

func identity(i *inboundpb.Identity) (model.Identity, error) { return model.ParseIdentity(i.GetName()) }

func inboundHTTPRoute(r *inboundpb.HttpRoute) (out model.Route, err error) {
	if out.Meta, err = inboundMeta(r.GetMetadata()); err != nil {
		return out, fmt.Errorf("route: %w", err)
	}
	defer func() { err = inRoute(out.Meta, err) }()
	if out.Hosts, err = hosts(r.GetHosts()); err != nil {
		return out, err
	}
	if out.Authorizations, err = each(r.GetAuthorizations(), authorization); err != nil {
		return out, err
	}
	out.Rules, err = each(r.GetRules(), func(r *inboundpb.HttpRoute_Rule) (rule model.Rule, err error) {
		if rule.Matches, err = httpMatches(r.GetMatches()); err != nil {
			return rule, err
		}
		rule.Filters, err = each(r.GetFilters(), func(f *inboundpb.HttpRoute_Filter) (model.Filter, error) {
			switch {
			case f.GetUrlRewrite() != nil:
				return rewrite(f.GetUrlRewrite())
			case f.GetCors() != nil:
				return cors(f.GetCors())
			case f.GetDelay() != nil:
				return delay(f.GetDelay())
			case f.GetResponseHeaderModifier() != nil:
				return responseHeaders(f.GetResponseHeaderModifier())
			}
			switch k := f.GetKind().(type) {
			case *inboundpb.HttpRoute_Filter_FailureInjector:
				return httpFailure(k.FailureInjector)
			case *inboundpb.HttpRoute_Filter_RequestHeaderModifier:
				return requestHeaders(k.RequestHeaderModifier)
			case *inboundpb.HttpRoute_Filter_Redirect:
				return redirect(k.Redirect)
			}
			return model.Filter{Kind: model.FilterInternalError, Message: unknownFilter}, nil
		})
		return rule, err
	})
	return out, err
}

func inboundGRPCRoute(r *inboundpb.GrpcRoute) (out model.Route, err error) {
	if out.Meta, err = inboundMeta(r.GetMetadata()); err != nil {
		return out, fmt.Errorf("route: %w", err)
	}
	defer func() { err = inRoute(out.Meta, err) }()
	if out.Hosts, err = hosts(r.GetHosts()); err != nil {
		return out, err
	}
	if out.Authorizations, err = each(r.GetAuthorizations(), authorization); err != nil {
		return out, err
	}
	out.Rules, err = each(r.GetRules(), func(r *inboundpb.GrpcRoute_Rule) (rule model.Rule, err error) {
		if rule.Matches, err = grpcMatches(r.GetMatches()); err != nil {
			return rule, err
		}
		rule.Filters, err = each(r.GetFilters(), func(f *inboundpb.GrpcRoute_Filter) (model.Filter, error) {
			switch {
			case f.GetDelay() != nil:
				return delay(f.GetDelay())
			case f.GetResponseHeaderModifier() != nil:
				return responseHeaders(f.GetResponseHeaderModifier())
			}
			switch k := f.GetKind().(type) {
			case *inboundpb.GrpcRoute_Filter_FailureInjector:
				return grpcFailure(k.FailureInjector)
			case *inboundpb.GrpcRoute_Filter_RequestHeaderModifier:
				return requestHeaders(k.RequestHeaderModifier)
			}
			return model.Filter{Kind: model.FilterInternalError, Message: unknownFilter}, nil
		})
		return rule, err
	})
	return out, err
}

func inRoute(m model.Meta, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("route %s: %w", m, err)
}

func rateLimit(l *inboundpb.HttpLocalRateLimit) (*model.RateLimit, error) {
	if l == nil {
		return nil, nil
	}
	meta, err := inboundMeta(l.GetMetadata())
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	out := &model.RateLimit{Meta: meta, Total: l.GetTotal().GetRequestsPerSecond(), Identity: l.GetIdentity().GetRequestsPerSecond()}
	out.Shared = l.GetReplicas() > 0
	if out.Burst, err = optionalDuration(l.GetBurst(), "rate limit burst"); err != nil {
		return nil, err
	}
	for _, o := range l.GetOverrides() {
		clients, err := each(o.GetClients().GetIdentities(), identity)
		if err != nil {
			return nil, fmt.Errorf("rate limit override: %w", err)
		}
		out.Overrides = append(out.Overrides, model.RateOverride{Limit: o.GetLimit().GetRequestsPerSecond(), Clients: slices.Clip(clients)})
	}
	return out, nil
}
