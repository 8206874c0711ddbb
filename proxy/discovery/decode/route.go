package decode

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	grpcroutepb "github.com/linkerd-go/linkerd-go/api/lean/grpcroute"
	httproutepb "github.com/linkerd-go/linkerd-go/api/lean/httproute"
	httptypespb "github.com/linkerd-go/linkerd-go/api/lean/httptypes"
	tlsroutepb "github.com/linkerd-go/linkerd-go/api/lean/tlsroute"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// What routes of both directions have in common.

func hosts(list []*httproutepb.HostMatch) ([]model.HostMatch, error) {
	var out []model.HostMatch
	for _, h := range list {
		switch m := h.GetMatch().(type) {
		case *httproutepb.HostMatch_Exact:
			n, err := model.ParseDNSName(m.Exact)
			if err != nil {
				return nil, fmt.Errorf("host: %w", err)
			}
			out = append(out, model.HostMatch{Name: n})
		case *httproutepb.HostMatch_Suffix_:
			n, err := suffix(m.Suffix.GetReverseLabels())
			if err != nil {
				return nil, fmt.Errorf("host suffix: %w", err)
			}
			out = append(out, model.HostMatch{Name: n, Suffix: true})
		default:
			return nil, missing("host match")
		}
	}
	return out, nil
}

func suffix(reversed []string) (string, error) {
	labels := slices.Clone(reversed)
	slices.Reverse(labels)
	return model.ParseDNSName(strings.Join(labels, "."))
}

func snis(list []*tlsroutepb.SniMatch) ([]model.HostMatch, error) {
	var out []model.HostMatch
	for _, h := range list {
		switch m := h.GetMatch().(type) {
		case *tlsroutepb.SniMatch_Exact:
			n, err := model.ParseDNSName(m.Exact)
			if err != nil {
				return nil, fmt.Errorf("sni: %w", err)
			}
			out = append(out, model.HostMatch{Name: n})
		case *tlsroutepb.SniMatch_Suffix_:
			n, err := suffix(m.Suffix.GetReverseLabels())
			if err != nil {
				return nil, fmt.Errorf("sni suffix: %w", err)
			}
			out = append(out, model.HostMatch{Name: n, Suffix: true})
		default:
			return nil, missing("sni match")
		}
	}
	return out, nil
}

func httpMatches(list []*httproutepb.HttpRouteMatch) ([]model.Match, error) {
	var out []model.Match
	for _, m := range list {
		var match model.Match
		var err error
		if p := m.GetPath(); p != nil {
			if match.Path, err = path(p); err != nil {
				return nil, err
			}
		}
		if match.Headers, err = headerMatches(m.GetHeaders()); err != nil {
			return nil, err
		}
		for _, q := range m.GetQueryParams() {
			qm := model.QueryMatch{Name: q.GetName()}
			switch v := q.GetValue().(type) {
			case *httproutepb.QueryParamMatch_Exact:
				qm.Exact = v.Exact
			case *httproutepb.QueryParamMatch_Regex:
				if qm.Regex, err = model.CompileRegex(v.Regex); err != nil {
					return nil, fmt.Errorf("query parameter %q: %w", q.GetName(), err)
				}
			default:
				return nil, missing("query parameter value")
			}
			match.Query = append(match.Query, qm)
		}
		if me := m.GetMethod(); me != nil {
			if match.Method, err = method(me); err != nil {
				return nil, err
			}
		}
		out = append(out, match)
	}
	return out, nil
}

func path(p *httproutepb.PathMatch) (model.PathMatch, error) {
	switch k := p.GetKind().(type) {
	case *httproutepb.PathMatch_Exact:
		return model.PathMatch{Kind: model.PathExact, Value: k.Exact}, nil
	case *httproutepb.PathMatch_Prefix:
		return model.PathMatch{Kind: model.PathPrefix, Value: k.Prefix}, nil
	case *httproutepb.PathMatch_Regex:
		re, err := model.CompileRegex(k.Regex)
		if err != nil {
			return model.PathMatch{}, fmt.Errorf("path: %w", err)
		}
		return model.PathMatch{Kind: model.PathRegex, Value: k.Regex, Regex: re}, nil
	}
	return model.PathMatch{}, missing("path match kind")
}

func headerMatches(list []*httproutepb.HeaderMatch) ([]model.HeaderMatch, error) {
	var out []model.HeaderMatch
	for _, h := range list {
		name, err := headerName(h.GetName())
		if err != nil {
			return nil, err
		}
		m := model.HeaderMatch{Name: name}
		switch v := h.GetValue().(type) {
		case *httproutepb.HeaderMatch_Exact:
			m.Exact = string(v.Exact)
			if !isValue(m.Exact) {
				return nil, fmt.Errorf("header %s: value is not valid", name)
			}
		case *httproutepb.HeaderMatch_Regex:
			if m.Regex, err = model.CompileRegex(v.Regex); err != nil {
				return nil, fmt.Errorf("header %s: %w", name, err)
			}
		default:
			return nil, missing("header value")
		}
		out = append(out, m)
	}
	return out, nil
}

func grpcMatches(list []*grpcroutepb.GrpcRouteMatch) ([]model.Match, error) {
	var out []model.Match
	for _, m := range list {
		if m.GetRpc() == nil {
			return nil, missing("rpc match")
		}
		headers, err := headerMatches(m.GetHeaders())
		if err != nil {
			return nil, err
		}
		out = append(out, model.Match{Service: m.GetRpc().GetService(), RPC: m.GetRpc().GetMethod(), Headers: headers})
	}
	return out, nil
}

func modifier(add, set *httptypespb.Headers, remove []string) (*model.HeaderModifier, error) {
	out := new(model.HeaderModifier)
	for _, part := range []struct {
		from *httptypespb.Headers
		to   *[]model.Header
	}{{add, &out.Add}, {set, &out.Set}} {
		for _, h := range part.from.GetHeaders() {
			name, err := headerName(h.GetName())
			if err != nil {
				return nil, err
			}
			if !isValue(string(h.GetValue())) {
				return nil, fmt.Errorf("header %s: value is not valid", name)
			}
			*part.to = append(*part.to, model.Header{Name: name, Value: string(h.GetValue())})
		}
	}
	for _, n := range remove {
		name, err := headerName(n)
		if err != nil {
			return nil, err
		}
		out.Remove = append(out.Remove, name)
	}
	return out, nil
}

func requestHeaders(m *httproutepb.RequestHeaderModifier) (model.Filter, error) {
	h, err := modifier(m.GetAdd(), m.GetSet(), m.GetRemove())
	return model.Filter{Kind: model.FilterRequestHeaders, Headers: h}, err
}

func responseHeaders(m *httproutepb.ResponseHeaderModifier) (model.Filter, error) {
	h, err := modifier(m.GetAdd(), m.GetSet(), m.GetRemove())
	return model.Filter{Kind: model.FilterResponseHeaders, Headers: h}, err
}

func redirect(r *httproutepb.RequestRedirect) (model.Filter, error) {
	out := &model.Redirect{Status: 301}
	fail := func(err error) (model.Filter, error) {
		return model.Filter{}, fmt.Errorf("redirect: %w", err)
	}
	if s := r.GetScheme(); s != nil {
		switch t := s.GetType().(type) {
		case *httptypespb.Scheme_Registered_:
			name, ok := httptypespb.Scheme_Registered_name[int32(t.Registered)]
			if !ok {
				return fail(fmt.Errorf("unknown scheme %d", t.Registered))
			}
			out.Scheme = strings.ToLower(name)
		case *httptypespb.Scheme_Unregistered:
			if !isToken(t.Unregistered) {
				return fail(fmt.Errorf("scheme %q is not valid", t.Unregistered))
			}
			out.Scheme = strings.ToLower(t.Unregistered)
		default:
			return fail(missing("scheme"))
		}
	}
	if h := r.GetHost(); h != "" {
		if !isAuthority(h) {
			return fail(fmt.Errorf("host %q is not valid", h))
		}
		out.Host = h
	}
	if r.GetPort() > 65535 {
		return fail(fmt.Errorf("port %d is not valid", r.GetPort()))
	}
	out.Port = uint16(r.GetPort())
	if s := r.GetStatus(); s != 0 {
		if s < 100 || s > 999 {
			return fail(fmt.Errorf("status %d is not valid", s))
		}
		out.Status = int(s)
	}
	var err error
	if out.Path, err = pathModifier(r.GetPath()); err != nil {
		return fail(err)
	}
	return model.Filter{Kind: model.FilterRedirect, Redirect: out}, nil
}

// pathModifier decodes a change of paths; unset changes nothing.
func pathModifier(p *httproutepb.PathModifier) (out model.PathModifier, err error) {
	if p == nil {
		return out, nil
	}
	value := ""
	switch k := p.GetReplace().(type) {
	case *httproutepb.PathModifier_Full:
		value, out.Full = k.Full, k.Full
	case *httproutepb.PathModifier_Prefix:
		value, out.Prefix, out.HasPrefix = k.Prefix, k.Prefix, true
	default:
		return out, missing("path replacement")
	}
	if !strings.HasPrefix(value, "/") || !isValue(value) {
		return out, fmt.Errorf("path %q is not valid", value)
	}
	return out, nil
}

func rewrite(r *httproutepb.UrlRewrite) (model.Filter, error) {
	out := &model.Rewrite{Host: r.GetHost()}
	if out.Host != "" && !isAuthority(out.Host) {
		return model.Filter{}, fmt.Errorf("rewrite: host %q is not valid", out.Host)
	}
	var err error
	if out.Path, err = pathModifier(r.GetPath()); err != nil {
		return model.Filter{}, fmt.Errorf("rewrite: %w", err)
	}
	return model.Filter{Kind: model.FilterRewrite, Rewrite: out}, nil
}

func cors(c *httproutepb.Cors) (model.Filter, error) {
	out := &model.CORS{Credentials: c.GetAllowCredentials()}
	for _, o := range c.GetAllowOrigins() {
		if o == "*" {
			out.AnyOrigin = true
			continue
		}
		origin, err := origin(o)
		if err != nil {
			return model.Filter{}, err
		}
		out.Origins = append(out.Origins, origin)
	}
	list := func(what string, names []string, any *bool, joined *string) error {
		for _, n := range names {
			if n == "*" && any != nil {
				*any = true
			} else if n != "*" && !isToken(n) {
				return fmt.Errorf("cors: %s %q is not valid", what, n)
			}
		}
		*joined = strings.Join(names, ", ")
		return nil
	}
	if err := errors.Join(
		list("method", c.GetAllowMethods(), &out.AnyMethod, &out.Methods),
		list("header", c.GetAllowHeaders(), &out.AnyHeader, &out.Headers),
		list("header", c.GetExposeHeaders(), nil, &out.Expose),
	); err != nil {
		return model.Filter{}, err
	}
	if out.Credentials && slices.Contains(c.GetExposeHeaders(), "*") {
		// With credentials a star is the name of a header, which nobody means.
		out.Expose = ""
	}
	age, err := optionalDuration(c.GetMaxAge(), "cors: max age")
	if err != nil {
		return model.Filter{}, err
	}
	if age > 0 {
		out.MaxAge = strconv.FormatInt(int64(age/time.Second), 10)
	}
	return model.Filter{Kind: model.FilterCORS, CORS: out}, nil
}

// origin decodes `scheme://host[:port]`, where the host may begin with a star.
func origin(text string) (out model.Origin, err error) {
	scheme, rest, ok := strings.Cut(strings.ToLower(text), "://")
	ports := map[string]uint16{"http": 80, "https": 443}
	if !ok || ports[scheme] == 0 {
		return out, fmt.Errorf("cors: origin %q is neither http nor https", text)
	}
	out.Scheme, out.Host, out.Port = scheme, rest, ports[scheme]
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		port, err := strconv.ParseUint(rest[i+1:], 10, 16)
		if err != nil || port == 0 {
			return out, fmt.Errorf("cors: origin %q has a port that is not valid", text)
		}
		out.Host, out.Port = rest[:i], uint16(port)
	}
	out.Host, out.Wildcard = strings.CutPrefix(out.Host, "*")
	if out.Host == "" && !out.Wildcard || strings.Contains(out.Host, "*") {
		return out, fmt.Errorf("cors: origin %q has a host that is not valid", text)
	}
	return out, nil
}

func ratio(r *httproutepb.Ratio) (numerator, denominator uint32, err error) {
	if r == nil {
		return 1, 1, nil
	}
	if r.GetDenominator() == 0 || r.GetNumerator() > r.GetDenominator() {
		return 0, 0, fmt.Errorf("ratio %d/%d is not valid", r.GetNumerator(), r.GetDenominator())
	}
	return r.GetNumerator(), r.GetDenominator(), nil
}

func delay(d *httproutepb.Delay) (model.Filter, error) {
	out := &model.Delay{}
	var err error
	if out.Time, err = optionalDuration(d.GetTime(), "delay"); err != nil {
		return model.Filter{}, err
	}
	if out.Time <= 0 {
		return model.Filter{}, errors.New("delay is not longer than 0")
	}
	if out.Numerator, out.Denominator, err = ratio(d.GetRatio()); err != nil {
		return model.Filter{}, fmt.Errorf("delay: %w", err)
	}
	return model.Filter{Kind: model.FilterDelay, Delay: out}, nil
}

func httpFailure(f *httproutepb.HttpFailureInjector) (model.Filter, error) {
	n, d, err := ratio(f.GetRatio())
	if err != nil {
		return model.Filter{}, err
	}
	if s := f.GetStatus(); s < 100 || s > 999 {
		return model.Filter{}, fmt.Errorf("failure status %d is not valid", s)
	}
	return model.Filter{Kind: model.FilterFailure, Failure: &model.Failure{
		Status: int(f.GetStatus()), Message: f.GetMessage(), Numerator: n, Denominator: d}}, nil
}

func grpcFailure(f *grpcroutepb.GrpcFailureInjector) (model.Filter, error) {
	n, d, err := ratio(f.GetRatio())
	if err != nil {
		return model.Filter{}, err
	}
	if f.GetCode() > 65535 {
		return model.Filter{}, errors.New("failure code is not valid")
	}
	return model.Filter{Kind: model.FilterFailure, Failure: &model.Failure{
		GRPC: true, Code: f.GetCode(), Message: f.GetMessage(), Numerator: n, Denominator: d}}, nil
}

// each decodes the items of a list; the first error ends it.
func each[A, B any](list []A, f func(A) (B, error)) ([]B, error) {
	var out []B
	for _, a := range list {
		b, err := f(a)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
