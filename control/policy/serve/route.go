package serve

import (
	"slices"
	"strings"

	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	httptypespb "github.com/linkerd-go/linkerd-go/api/proto/httptypes"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// What follows is shared by routes of both directions. Source: proxy API chapter, section 2.4.

// reversed returns the labels of a name, last first.
func reversed(name string) []string {
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	return labels
}

func hosts(list []core.Host) []*httproutepb.HostMatch {
	var encoded []*httproutepb.HostMatch
	for _, h := range list {
		match := &httproutepb.HostMatch{Match: &httproutepb.HostMatch_Exact{Exact: h.Name}}
		if h.Suffix {
			match.Match = &httproutepb.HostMatch_Suffix_{Suffix: &httproutepb.HostMatch_Suffix{ReverseLabels: reversed(h.Name)}}
		}
		encoded = append(encoded, match)
	}
	return encoded
}

func httpMatches(list []core.HTTPMatch) []*httproutepb.HttpRouteMatch {
	var encoded []*httproutepb.HttpRouteMatch
	for _, m := range list {
		match := &httproutepb.HttpRouteMatch{Headers: headerMatches(m.Headers), Method: method(m.Method)}
		switch m.PathMatch {
		case core.PathExact:
			match.Path = &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Exact{Exact: m.Path}}
		case core.PathPrefix:
			match.Path = &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Prefix{Prefix: m.Path}}
		case core.PathRegex:
			match.Path = &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Regex{Regex: m.Path}}
		}
		for _, q := range m.Query {
			param := &httproutepb.QueryParamMatch{Name: q.Name}
			if q.Regex {
				param.Value = &httproutepb.QueryParamMatch_Regex{Regex: q.Value}
			} else {
				param.Value = &httproutepb.QueryParamMatch_Exact{Exact: q.Value}
			}
			match.QueryParams = append(match.QueryParams, param)
		}
		encoded = append(encoded, match)
	}
	return encoded
}

func method(name string) *httptypespb.HttpMethod {
	if name == "" {
		return nil
	}
	if n, ok := httptypespb.HttpMethod_Registered_value[name]; ok {
		return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: httptypespb.HttpMethod_Registered(n)}}
	}
	return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Unregistered{Unregistered: name}}
}

func scheme(name string) *httptypespb.Scheme {
	if name == "" {
		return nil
	}
	if n, ok := httptypespb.Scheme_Registered_value[strings.ToUpper(name)]; ok {
		return &httptypespb.Scheme{Type: &httptypespb.Scheme_Registered_{Registered: httptypespb.Scheme_Registered(n)}}
	}
	return &httptypespb.Scheme{Type: &httptypespb.Scheme_Unregistered{Unregistered: name}}
}

func headers(list []core.Header) *httptypespb.Headers {
	if len(list) == 0 {
		return nil
	}
	encoded := &httptypespb.Headers{}
	for _, h := range list {
		encoded.Headers = append(encoded.Headers, &httptypespb.Headers_Header{Name: h.Name, Value: []byte(h.Value)})
	}
	return encoded
}

func requestHeaders(m *core.HeaderModifier) *httproutepb.RequestHeaderModifier {
	return &httproutepb.RequestHeaderModifier{Add: headers(m.Add), Set: headers(m.Set), Remove: m.Remove}
}

func responseHeaders(m *core.HeaderModifier) *httproutepb.ResponseHeaderModifier {
	return &httproutepb.ResponseHeaderModifier{Add: headers(m.Add), Set: headers(m.Set), Remove: m.Remove}
}

func redirect(r *core.Redirect) *httproutepb.RequestRedirect {
	return &httproutepb.RequestRedirect{
		Scheme: scheme(r.Scheme), Host: r.Host, Port: uint32(r.Port), Status: uint32(r.Status), Path: pathModifier(r.Path),
	}
}

func pathModifier(m core.PathModifier) *httproutepb.PathModifier {
	switch {
	case m.Full != "":
		return &httproutepb.PathModifier{Replace: &httproutepb.PathModifier_Full{Full: m.Full}}
	case m.Prefix != "":
		return &httproutepb.PathModifier{Replace: &httproutepb.PathModifier_Prefix{Prefix: m.Prefix}}
	}
	return nil
}
