package resource

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// defaultRedirectStatus is that of redirects that name none. Source: proxy API chapter, section 6.7.
const defaultRedirectStatus = http.StatusFound

// HTTPRoute reads an HTTPRoute of either group: that of policy.linkerd.io has the same shape, with fewer fields. Source:
// proxy API chapter, sections 5.5, 6.6 and 6.7.
func (r Reader) HTTPRoute(route *gatewayv1.HTTPRoute, group string) (*core.Route, error) {
	read, err := routeOf(group, core.HTTPRoute, route, route.Spec.CommonRouteSpec, route.Status.RouteStatus)
	if err != nil {
		return nil, err
	}
	if read.Hosts, err = hosts(route.Spec.Hostnames); err != nil {
		return nil, err
	}
	if outbound(read) {
		if read.Timeouts, err = core.ParseTimeouts(route.Annotations); err != nil {
			return nil, err
		}
		if read.Retry, err = core.ParseHTTPRetry(route.Annotations); err != nil {
			return nil, err
		}
	}
	if read.Faults, err = faults(route.Annotations, names.AnnotationFaultAbortGRPC); err != nil {
		return nil, err
	}
	for i, rule := range route.Spec.Rules {
		compiled, err := r.httpRule(item("spec.rules", i), rule)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(compiled.Filters, clientSide) && read.NotInbound == "" {
			read.NotInbound = "servers cannot mirror requests"
		}
		read.Rules = append(read.Rules, compiled)
	}
	return read, nil
}

// clientSide reports whether a filter has an effect on the side of clients only.
func clientSide(f core.Filter) bool { return f.Mirror != nil }

// GRPCRoute reads a GRPCRoute.
func (r Reader) GRPCRoute(route *gatewayv1.GRPCRoute) (*core.Route, error) {
	read, err := routeOf(core.GroupGateway, core.GRPCRoute, route, route.Spec.CommonRouteSpec, route.Status.RouteStatus)
	if err != nil {
		return nil, err
	}
	if read.Hosts, err = hosts(route.Spec.Hostnames); err != nil {
		return nil, err
	}
	if outbound(read) {
		if read.Timeouts, err = core.ParseTimeouts(route.Annotations); err != nil {
			return nil, err
		}
		if read.Retry, err = core.ParseGRPCRetry(route.Annotations); err != nil {
			return nil, err
		}
	}
	if read.Faults, err = faults(route.Annotations, names.AnnotationFaultAbortHTTP); err != nil {
		return nil, err
	}
	for i, rule := range route.Spec.Rules {
		compiled, err := r.grpcRule(item("spec.rules", i), rule)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(compiled.Filters, clientSide) && read.NotInbound == "" {
			read.NotInbound = "servers cannot mirror requests"
		}
		read.Rules = append(read.Rules, compiled)
	}
	return read, nil
}

// faults reads the faults of a route. other is the annotation that means nothing to routes of its kind.
func faults(annotations core.Annotations, other string) (*core.Faults, error) {
	read, err := core.ParseFaults(annotations)
	if _, has := annotations[other]; has && err == nil {
		err = fmt.Errorf("annotation %s: has no effect on routes of this kind", other)
	}
	return read, err
}

// TLSRoute reads a TLSRoute.
func (r Reader) TLSRoute(route *gatewayv1.TLSRoute) (*core.Route, error) {
	read, err := routeOf(core.GroupGateway, core.TLSRoute, route, route.Spec.CommonRouteSpec, route.Status.RouteStatus)
	if err != nil {
		return nil, err
	}
	if read.Hosts, err = hosts(route.Spec.Hostnames); err != nil {
		return nil, err
	}
	if len(route.Spec.Rules) != 1 {
		return nil, fmt.Errorf("spec.rules: there must be exactly one, not %d", len(route.Spec.Rules))
	}
	read.Rules = []core.Rule{{Backends: tcpBackends(route.Spec.Rules[0].BackendRefs)}}
	return read, nil
}

// TCPRoute reads a TCPRoute.
func (r Reader) TCPRoute(route *gatewayv1.TCPRoute) (*core.Route, error) {
	read, err := routeOf(core.GroupGateway, core.TCPRoute, route, route.Spec.CommonRouteSpec, route.Status.RouteStatus)
	if err != nil {
		return nil, err
	}
	if len(route.Spec.Rules) != 1 {
		return nil, fmt.Errorf("spec.rules: there must be exactly one, not %d", len(route.Spec.Rules))
	}
	read.Rules = []core.Rule{{Backends: tcpBackends(route.Spec.Rules[0].BackendRefs)}}
	return read, nil
}

// routeOf reads what all kinds of routes have.
func routeOf(group string, kind core.RouteKind, o metav1.Object, spec gatewayv1.CommonRouteSpec, status gatewayv1.RouteStatus) (*core.Route, error) {
	route := &core.Route{Object: object(o), Group: group, Kind: kind}
	for i, ref := range spec.ParentRefs {
		// Admission refuses it. Cut down to its lower half it would mean another port, or all of them.
		if port := or(ref.Port, 1); port < 1 || port > math.MaxUint16 {
			return nil, fmt.Errorf("%s.port: %d is not a number from 1 to 65535", item("spec.parentRefs", i), port)
		}
		parent, ok := ParentOf(ref, o.GetNamespace())
		if !ok {
			continue // of another controller
		}
		switch parent.Kind {
		case core.ParentServer:
			if parent.Namespace != o.GetNamespace() {
				route.NotInbound = "a parent Server must be in the route's namespace"
			}
			if ref.Port != nil || ref.SectionName != nil {
				route.NotInbound = "a parent Server must have neither port nor sectionName"
			}
			parent.Port = 0
		case core.ParentEgressNetwork, core.ParentService:
		}
		parent.Accepted = slices.ContainsFunc(status.Parents, func(s gatewayv1.RouteParentStatus) bool {
			is, ok := ParentOf(s.ParentRef, o.GetNamespace())
			if parent.Kind == core.ParentServer {
				is.Port = 0
			}
			return ok && string(s.ControllerName) == names.ControllerPolicy && is.Parent == parent.Parent && is.Port == parent.Port && accepted(s.Conditions)
		})
		route.Parents = append(route.Parents, parent)
	}
	return route, nil
}

// outbound reports whether a route is attached to something that clients send to.
func outbound(route *core.Route) bool {
	return slices.ContainsFunc(route.Parents, func(p core.ParentRef) bool { return p.Kind != core.ParentServer })
}

// ParentOf reads a reference to a parent. It returns false if the parent is of a kind that the mesh knows nothing of.
// Source: proxy API chapter, section 6.6.
func ParentOf(ref gatewayv1.ParentReference, namespace string) (core.ParentRef, bool) {
	if ref.Kind == nil {
		return core.ParentRef{}, false
	}
	group, kind := string(or(ref.Group, "")), string(*ref.Kind)
	parent := core.ParentRef{Port: uint16(or(ref.Port, 0))}
	parent.ID = core.ID{Namespace: string(or(ref.Namespace, gatewayv1.Namespace(namespace))), Name: string(ref.Name)}
	switch {
	case is(group, kind, core.GroupCore, "Service"):
		parent.Kind = core.ParentService
	case is(group, kind, core.GroupPolicy, "Server"):
		parent.Kind = core.ParentServer
	case is(group, kind, core.GroupPolicy, "EgressNetwork"):
		parent.Kind = core.ParentEgressNetwork
	default:
		return core.ParentRef{}, false
	}
	return parent, true
}

func hosts(names []gatewayv1.Hostname) ([]core.Host, error) {
	var list []core.Host
	for i, name := range names {
		host := core.Host{Name: string(name)}
		host.Name, host.Suffix = strings.CutPrefix(host.Name, "*.")
		if host.Name == "" {
			return nil, at(item("spec.hostnames", i), errors.New("must not be empty"))
		}
		list = append(list, host)
	}
	return list, nil
}

func (r Reader) httpRule(field string, rule gatewayv1.HTTPRouteRule) (core.Rule, error) {
	var read core.Rule
	for i, match := range rule.Matches {
		m, err := httpMatch(item(field+".matches", i), match)
		if err != nil {
			return read, err
		}
		read.HTTP = append(read.HTTP, m)
	}
	for i, filter := range rule.Filters {
		f, err := httpFilter(item(field+".filters", i), filter)
		if err != nil {
			return read, err
		}
		read.Filters = append(read.Filters, f)
	}
	for _, ref := range rule.BackendRefs {
		backend := backendRef(ref.BackendRef)
		for i, filter := range ref.Filters {
			f, err := httpFilter(item("filters", i), filter)
			if err != nil {
				backend.Invalid = "unsupported backend filter: " + err.Error()
				break
			}
			backend.Filters = append(backend.Filters, f)
		}
		read.Backends = append(read.Backends, backend)
	}
	if rule.Timeouts == nil {
		return read, nil
	}
	if rule.Timeouts.Request != nil {
		limit, err := timeout(field+".timeouts.request", rule.Timeouts.Request)
		if err != nil {
			return read, err
		}
		read.Timeout = &limit
	}
	var err error
	read.AttemptTimeout, err = timeout(field+".timeouts.backendRequest", rule.Timeouts.BackendRequest)
	return read, err
}

// timeout reads a limit, or 0 for none. The Gateway API's durations are among those that Go reads. Source: proxy API chapter,
// section 6.8.
func timeout(field string, text *gatewayv1.Duration) (time.Duration, error) {
	if text == nil {
		return 0, nil
	}
	d, err := time.ParseDuration(string(*text))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s: %q is not a duration that is not negative", field, *text)
	}
	return d, nil
}

func httpMatch(field string, match gatewayv1.HTTPRouteMatch) (core.HTTPMatch, error) {
	read := core.HTTPMatch{PathMatch: core.PathPrefix, Path: "/", Method: string(or(match.Method, ""))}
	if match.Path != nil {
		read.Path = or(match.Path.Value, "/")
		pathField := field + ".path.value"
		switch kind := or(match.Path.Type, gatewayv1.PathMatchPathPrefix); kind {
		case gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix:
			if kind == gatewayv1.PathMatchExact {
				read.PathMatch = core.PathExact
			}
			if !strings.HasPrefix(read.Path, "/") {
				return read, fmt.Errorf("%s: %q does not start with /", pathField, read.Path)
			}
		case gatewayv1.PathMatchRegularExpression:
			read.PathMatch = core.PathRegex
			if err := compiles(pathField, read.Path); err != nil {
				return read, err
			}
		default:
			return read, fmt.Errorf("%s.path.type: %q is not supported", field, kind)
		}
	}
	for i, header := range match.Headers {
		m, err := headerMatch(item(field+".headers", i), string(header.Name), header.Value, string(or(header.Type, gatewayv1.HeaderMatchExact)))
		if err != nil {
			return read, err
		}
		read.Headers = append(read.Headers, m)
	}
	for i, param := range match.QueryParams {
		m, err := valueMatch(item(field+".queryParams", i), string(param.Name), param.Value, string(or(param.Type, gatewayv1.QueryParamMatchExact)))
		if err != nil {
			return read, err
		}
		read.Query = append(read.Query, m)
	}
	return read, nil
}

// compiles checks a regular expression. One that does not compile would make a proxy refuse the whole policy, also the
// routes of others.
func compiles(field, expression string) error {
	if _, err := regexp.Compile(expression); err != nil {
		return at(field, err)
	}
	return nil
}

func headerMatch(field, name, value, kind string) (core.ValueMatch, error) {
	if !isToken(name) {
		return core.ValueMatch{}, fmt.Errorf("%s.name: %q is not the name of a header field", field, name)
	}
	if kind == string(gatewayv1.HeaderMatchExact) && !isFieldValue(value) {
		return core.ValueMatch{}, fmt.Errorf("%s.value: %q is not the value of a header field", field, value)
	}
	return valueMatch(field, name, value, kind)
}

func valueMatch(field, name, value, kind string) (core.ValueMatch, error) {
	m := core.ValueMatch{Name: name, Value: value}
	switch kind {
	case string(gatewayv1.HeaderMatchExact):
	case string(gatewayv1.HeaderMatchRegularExpression):
		m.Regex = true
		if err := compiles(field+".value", value); err != nil {
			return m, err
		}
	default:
		return m, fmt.Errorf("%s.type: %q is not supported", field, kind)
	}
	return m, nil
}

// isToken reports whether s can be the name of a header field. Source: RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
	})
}

// isFieldValue reports whether s can be the value of a header field. Source: RFC 9110, section 5.5.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// SupportsHTTPFilter reports whether the mesh knows what to do with a filter of an HTTPRoute.
func SupportsHTTPFilter(kind gatewayv1.HTTPRouteFilterType) bool {
	switch kind {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier, gatewayv1.HTTPRouteFilterResponseHeaderModifier, gatewayv1.HTTPRouteFilterRequestRedirect,
		gatewayv1.HTTPRouteFilterURLRewrite, gatewayv1.HTTPRouteFilterRequestMirror, gatewayv1.HTTPRouteFilterCORS:
		return true
	}
	return false
}

// SupportsGRPCFilter reports whether the mesh knows what to do with a filter of a GRPCRoute.
func SupportsGRPCFilter(kind gatewayv1.GRPCRouteFilterType) bool {
	return kind == gatewayv1.GRPCRouteFilterRequestHeaderModifier || kind == gatewayv1.GRPCRouteFilterResponseHeaderModifier ||
		kind == gatewayv1.GRPCRouteFilterRequestMirror
}

func httpFilter(field string, filter gatewayv1.HTTPRouteFilter) (core.Filter, error) {
	var read core.Filter
	var err error
	missing := func() error { return fmt.Errorf("%s: %s has no settings", field, filter.Type) }
	switch filter.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		if filter.RequestHeaderModifier == nil {
			return read, missing()
		}
		read.RequestHeaders, err = modifier(field+".requestHeaderModifier", filter.RequestHeaderModifier)
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		if filter.ResponseHeaderModifier == nil {
			return read, missing()
		}
		read.ResponseHeaders, err = modifier(field+".responseHeaderModifier", filter.ResponseHeaderModifier)
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		if filter.RequestRedirect == nil {
			return read, missing()
		}
		read.Redirect, err = redirect(field+".requestRedirect", filter.RequestRedirect)
	case gatewayv1.HTTPRouteFilterURLRewrite:
		if filter.URLRewrite == nil {
			return read, missing()
		}
		read.Rewrite = &core.Rewrite{Host: string(or(filter.URLRewrite.Hostname, ""))}
		read.Rewrite.Path, err = pathModifier(field+".urlRewrite.path", filter.URLRewrite.Path)
	case gatewayv1.HTTPRouteFilterRequestMirror:
		if filter.RequestMirror == nil {
			return read, missing()
		}
		read.Mirror, err = mirror(field+".requestMirror", filter.RequestMirror)
	case gatewayv1.HTTPRouteFilterCORS:
		if filter.CORS == nil {
			return read, missing()
		}
		read.CORS, err = cors(field+".cors", filter.CORS)
	default:
		return read, fmt.Errorf("%s.type: %s is not supported", field, filter.Type)
	}
	return read, err
}

func modifier(field string, filter *gatewayv1.HTTPHeaderFilter) (*core.HeaderModifier, error) {
	read := &core.HeaderModifier{}
	headers := func(field string, list []gatewayv1.HTTPHeader) ([]core.Header, error) {
		var read []core.Header
		for i, header := range list {
			if !isToken(string(header.Name)) {
				return nil, fmt.Errorf("%s.name: %q is not the name of a header field", item(field, i), header.Name)
			}
			if !isFieldValue(header.Value) {
				return nil, fmt.Errorf("%s.value: %q is not the value of a header field", item(field, i), header.Value)
			}
			read = append(read, core.Header{Name: string(header.Name), Value: header.Value})
		}
		return read, nil
	}
	var err error
	if read.Add, err = headers(field+".add", filter.Add); err != nil {
		return nil, err
	}
	if read.Set, err = headers(field+".set", filter.Set); err != nil {
		return nil, err
	}
	for i, name := range filter.Remove {
		if !isToken(name) {
			return nil, fmt.Errorf("%s: %q is not the name of a header field", item(field+".remove", i), name)
		}
		read.Remove = append(read.Remove, name)
	}
	return read, nil
}

func redirect(field string, filter *gatewayv1.HTTPRequestRedirectFilter) (*core.Redirect, error) {
	status := or(filter.StatusCode, defaultRedirectStatus)
	if status < 100 || status > 999 {
		return nil, fmt.Errorf("%s.statusCode: %d is not a status", field, status)
	}
	read := &core.Redirect{
		Scheme: or(filter.Scheme, ""),
		Host:   string(or(filter.Hostname, "")),
		Port:   uint16(or(filter.Port, 0)),
		Status: uint16(status),
	}
	if port := or(filter.Port, 0); port < 0 || port > math.MaxUint16 {
		return nil, fmt.Errorf("%s.port: %d is not a number from 1 to 65535", field, port)
	}
	var err error
	read.Path, err = pathModifier(field+".path", filter.Path)
	return read, err
}

// pathModifier reads a change of paths, which may be none.
func pathModifier(field string, modifier *gatewayv1.HTTPPathModifier) (core.PathModifier, error) {
	var read core.PathModifier
	if modifier == nil {
		return read, nil
	}
	path := func(field string, text *string) (string, error) {
		if text == nil || !strings.HasPrefix(*text, "/") {
			return "", fmt.Errorf("%s: %q does not start with /", field, or(text, ""))
		}
		return *text, nil
	}
	var err error
	switch modifier.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		read.Full, err = path(field+".replaceFullPath", modifier.ReplaceFullPath)
	case gatewayv1.PrefixMatchHTTPPathModifier:
		read.Prefix, err = path(field+".replacePrefixMatch", modifier.ReplacePrefixMatch)
	default:
		err = fmt.Errorf("%s.type: %q is not supported", field, modifier.Type)
	}
	return read, err
}

// Mirrors returns the backends that filters mirror requests to.
func Mirrors(filters []gatewayv1.HTTPRouteFilter) []gatewayv1.BackendRef {
	var backends []gatewayv1.BackendRef
	for _, f := range filters {
		if f.RequestMirror != nil {
			backends = append(backends, gatewayv1.BackendRef{BackendObjectReference: f.RequestMirror.BackendRef})
		}
	}
	return backends
}

// GRPCMirrors is Mirrors for GRPCRoutes.
func GRPCMirrors(filters []gatewayv1.GRPCRouteFilter) []gatewayv1.BackendRef {
	var backends []gatewayv1.BackendRef
	for _, f := range filters {
		if f.RequestMirror != nil {
			backends = append(backends, gatewayv1.BackendRef{BackendObjectReference: f.RequestMirror.BackendRef})
		}
	}
	return backends
}

// mirror reads a mirror. What is wrong with its backend stays with that.
func mirror(field string, filter *gatewayv1.HTTPRequestMirrorFilter) (*core.Mirror, error) {
	read := &core.Mirror{
		To:        backendRef(gatewayv1.BackendRef{BackendObjectReference: filter.BackendRef}),
		Numerator: 100, Denominator: 100,
	}
	switch {
	case filter.Percent != nil && filter.Fraction != nil:
		return nil, fmt.Errorf("%s: percent and fraction exclude each other", field)
	case filter.Percent != nil:
		if *filter.Percent < 0 || *filter.Percent > 100 {
			return nil, fmt.Errorf("%s.percent: %d is not between 0 and 100", field, *filter.Percent)
		}
		read.Numerator = uint32(*filter.Percent)
	case filter.Fraction != nil:
		numerator, denominator := filter.Fraction.Numerator, or(filter.Fraction.Denominator, 100)
		if numerator < 0 || denominator < 1 || numerator > denominator {
			return nil, fmt.Errorf("%s.fraction: %d/%d is not between 0 and 1", field, numerator, denominator)
		}
		read.Numerator, read.Denominator = uint32(numerator), uint32(denominator)
	}
	return read, nil
}

// origin is an allowed origin: any, or a scheme and a host, which may begin with a star, or be one, and may have a port.
var origin = regexp.MustCompile(`^(\*|(?i:https?)://(\*|(\*\.?)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?)$`)

// defaultMaxAge is how long browsers may remember what they may do, if the filter does not say.
const defaultMaxAge = 5 * time.Second

// cors reads a CORS filter.
func cors(field string, filter *gatewayv1.HTTPCORSFilter) (*core.CORS, error) {
	read := &core.CORS{Credentials: or(filter.AllowCredentials, false), MaxAge: time.Duration(filter.MaxAge) * time.Second}
	if filter.MaxAge <= 0 {
		read.MaxAge = defaultMaxAge
	}
	for i, o := range filter.AllowOrigins {
		if !origin.MatchString(string(o)) {
			return nil, fmt.Errorf("%s: %q is not an origin", item(field+".allowOrigins", i), o)
		}
		read.Origins = append(read.Origins, string(o))
	}
	for i, m := range filter.AllowMethods {
		if !isToken(string(m)) {
			return nil, fmt.Errorf("%s: %q is not a method", item(field+".allowMethods", i), m)
		}
		read.Methods = append(read.Methods, string(m))
	}
	headers := func(field string, list []gatewayv1.HTTPHeaderName) ([]string, error) {
		var read []string
		for i, name := range list {
			if !isToken(string(name)) {
				return nil, fmt.Errorf("%s: %q is not the name of a header field", item(field, i), name)
			}
			read = append(read, string(name))
		}
		return read, nil
	}
	var err error
	if read.Headers, err = headers(field+".allowHeaders", filter.AllowHeaders); err != nil {
		return nil, err
	}
	read.Expose, err = headers(field+".exposeHeaders", filter.ExposeHeaders)
	return read, err
}

func (r Reader) grpcRule(field string, rule gatewayv1.GRPCRouteRule) (core.Rule, error) {
	var read core.Rule
	for i, match := range rule.Matches {
		m, err := grpcMatch(item(field+".matches", i), match)
		if err != nil {
			return read, err
		}
		read.GRPC = append(read.GRPC, m)
	}
	for i, filter := range rule.Filters {
		f, err := grpcFilter(item(field+".filters", i), filter)
		if err != nil {
			return read, err
		}
		read.Filters = append(read.Filters, f)
	}
	for _, ref := range rule.BackendRefs {
		backend := backendRef(ref.BackendRef)
		for i, filter := range ref.Filters {
			f, err := grpcFilter(item("filters", i), filter)
			if err != nil {
				backend.Invalid = "unsupported backend filter: " + err.Error()
				break
			}
			backend.Filters = append(backend.Filters, f)
		}
		read.Backends = append(read.Backends, backend)
	}
	return read, nil
}

func grpcMatch(field string, match gatewayv1.GRPCRouteMatch) (core.GRPCMatch, error) {
	var read core.GRPCMatch
	if method := match.Method; method != nil {
		if kind := or(method.Type, gatewayv1.GRPCMethodMatchExact); kind != gatewayv1.GRPCMethodMatchExact {
			return read, fmt.Errorf("%s.method.type: %s is not supported", field, kind)
		}
		read.Service, read.Method = or(method.Service, ""), or(method.Method, "")
	}
	for i, header := range match.Headers {
		m, err := headerMatch(item(field+".headers", i), string(header.Name), header.Value, string(or(header.Type, gatewayv1.GRPCHeaderMatchExact)))
		if err != nil {
			return read, err
		}
		read.Headers = append(read.Headers, m)
	}
	return read, nil
}

// grpcFilter reads a filter by way of the HTTP filter of the same name.
func grpcFilter(field string, filter gatewayv1.GRPCRouteFilter) (core.Filter, error) {
	if SupportsGRPCFilter(filter.Type) {
		return httpFilter(field, gatewayv1.HTTPRouteFilter{
			Type:                   gatewayv1.HTTPRouteFilterType(filter.Type),
			RequestHeaderModifier:  filter.RequestHeaderModifier,
			ResponseHeaderModifier: filter.ResponseHeaderModifier,
			RequestMirror:          filter.RequestMirror,
		})
	}
	return core.Filter{}, fmt.Errorf("%s.type: %s is not supported", field, filter.Type)
}

func tcpBackends(refs []gatewayv1.BackendRef) []core.BackendRef {
	var list []core.BackendRef
	for _, ref := range refs {
		list = append(list, backendRef(ref))
	}
	return list
}

// BackendKind returns the kind of a reference to a backend, or an empty one if the mesh knows nothing of it.
func BackendKind(ref gatewayv1.BackendObjectReference) core.BackendKind {
	group, kind := string(or(ref.Group, "")), string(or(ref.Kind, "Service"))
	switch {
	case is(group, kind, core.GroupCore, "Service"):
		return core.BackendService
	case is(group, kind, core.GroupPolicy, "EgressNetwork"):
		return core.BackendEgressNetwork
	}
	return ""
}

// maxWeight is the largest share that a backend may have.
const maxWeight = 1_000_000

// backendRef reads a reference to a backend; what is wrong with it stays with the reference. Source: proxy API chapter,
// section 6.7.
func backendRef(ref gatewayv1.BackendRef) core.BackendRef {
	backend := core.BackendRef{
		Kind:   BackendKind(ref.BackendObjectReference),
		ID:     core.ID{Namespace: string(or(ref.Namespace, "")), Name: string(ref.Name)},
		Port:   uint16(or(ref.Port, 0)),
		Weight: uint32(min(max(or(ref.Weight, 1), 0), maxWeight)),
	}
	switch port := or(ref.Port, 1); {
	case port < 1 || port > math.MaxUint16:
		backend.Port = 0
		backend.Invalid = fmt.Sprintf("%d is not a port", port)
	case backend.Kind == "":
		group := string(or(ref.Group, ""))
		if group == "" {
			group = core.GroupCore
		}
		backend.Invalid = fmt.Sprintf("unsupported backend type %s %s", group, or(ref.Kind, "Service"))
	case backend.Kind == core.BackendService && backend.Port == 0:
		backend.Invalid = "missing port for backend Service " + backend.Name
	}
	return backend
}

// ReferenceGrant reads a ReferenceGrant, or returns nil if it is about nothing that routes of the mesh refer to.
func (r Reader) ReferenceGrant(g *gatewayv1.ReferenceGrant) (*core.ReferenceGrant, error) {
	grant := &core.ReferenceGrant{Object: object(g)}
	for _, from := range g.Spec.From {
		group, kind := string(from.Group), core.RouteKind(from.Kind)
		gateway := group == core.GroupGateway && slices.Contains([]core.RouteKind{core.HTTPRoute, core.GRPCRoute, core.TLSRoute, core.TCPRoute}, kind)
		if gateway || group == core.GroupPolicy && kind == core.HTTPRoute {
			grant.From = append(grant.From, core.GrantedRoutes{Group: group, Kind: kind, Namespace: string(from.Namespace)})
		}
	}
	for _, to := range g.Spec.To {
		if is(string(to.Group), string(to.Kind), core.GroupCore, "Service") {
			grant.To = append(grant.To, string(or(to.Name, "")))
		}
	}
	if len(grant.From) == 0 || len(grant.To) == 0 {
		return nil, nil
	}
	return grant, nil
}

// Resources of the Gateway API, by kind. TLSRoutes, TCPRoutes and ReferenceGrants are read in an older version, so that older
// releases of the Gateway API work; its shape is the same. Source: control plane chapter, section 7.1.
var (
	PolicyHTTPRoutes  = schema.GroupVersionResource{Group: core.GroupPolicy, Version: "v1beta3", Resource: "httproutes"}
	GatewayHTTPRoutes = schema.GroupVersionResource{Group: core.GroupGateway, Version: "v1", Resource: "httproutes"}
	GRPCRoutes        = schema.GroupVersionResource{Group: core.GroupGateway, Version: "v1", Resource: "grpcroutes"}
	TLSRoutes         = schema.GroupVersionResource{Group: core.GroupGateway, Version: "v1alpha2", Resource: "tlsroutes"}
	TCPRoutes         = schema.GroupVersionResource{Group: core.GroupGateway, Version: "v1alpha2", Resource: "tcproutes"}
	ReferenceGrants   = schema.GroupVersionResource{Group: core.GroupGateway, Version: "v1beta1", Resource: "referencegrants"}
)
