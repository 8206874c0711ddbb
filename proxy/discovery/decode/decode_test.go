package decode_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	leandestination "github.com/linkerd-go/linkerd-go/api/lean/destination"
	leaninbound "github.com/linkerd-go/linkerd-go/api/lean/inbound"
	leanoutbound "github.com/linkerd-go/linkerd-go/api/lean/outbound"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	grpcroutepb "github.com/linkerd-go/linkerd-go/api/proto/grpcroute"
	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	httptypespb "github.com/linkerd-go/linkerd-go/api/proto/httptypes"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// lean is a message in the rendering that is decoded.
func lean[M interface{ ParseWire([]byte) error }](full proto.Message, m M) M {
	b, err := proto.Marshal(full)
	if err == nil {
		err = m.ParseWire(b)
	}
	if err != nil {
		panic(err)
	}
	return m
}

// TestGolden decodes the messages in testdata/<message>/*.txtpb and compares
// what comes out, without zero values, with the .golden files beside them.
func TestGolden(t *testing.T) {
	for kind, read := range map[string]func([]byte) (any, error){
		"outbound": func(b []byte) (any, error) {
			var m outboundpb.OutboundPolicy
			if err := prototext.Unmarshal(b, &m); err != nil {
				return nil, err
			}
			p, err := decode.ClientPolicy(lean(&m, new(leanoutbound.OutboundPolicy)))
			return p, err
		},
		"inbound": func(b []byte) (any, error) {
			var m inboundpb.Server
			if err := prototext.Unmarshal(b, &m); err != nil {
				return nil, err
			}
			p, err := decode.Server(lean(&m, new(leaninbound.Server)), 10*time.Second)
			return p, err
		},
		"profile": func(b []byte) (any, error) {
			var m destinationpb.DestinationProfile
			err := prototext.Unmarshal(b, &m)
			return decode.Profile(lean(&m, new(leandestination.DestinationProfile))), err
		},
		"endpoint": func(b []byte) (any, error) {
			var m destinationpb.WeightedAddrSet
			if err := prototext.Unmarshal(b, &m); err != nil {
				return nil, err
			}
			var out []*model.Endpoint
			for _, a := range m.GetAddrs() {
				e, ok := decode.Endpoint(lean(a, new(leandestination.WeightedAddr)), m.GetMetricLabels())
				if !ok {
					e = nil
				}
				out = append(out, e)
			}
			return out, nil
		},
	} {
		files, _ := filepath.Glob("testdata/" + kind + "/*.txtpb")
		if len(files) == 0 {
			t.Errorf("no files for %s", kind)
		}
		for _, f := range files {
			t.Run(strings.TrimPrefix(f, "testdata/"), func(t *testing.T) {
				in, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				v, err := read(in)
				var out bytes.Buffer
				if err != nil {
					fmt.Fprintf(&out, "error: %v\n", err)
				}
				show(&out, reflect.ValueOf(v), 0)
				golden.File(t, strings.TrimSuffix(f, ".txtpb")+".golden", out.String())
			})
		}
	}
}

// show writes a value with one line per field that is not zero.
func show(w *bytes.Buffer, v reflect.Value, depth int) {
	indent := strings.Repeat("  ", depth)
	if v.IsValid() && v.CanInterface() {
		if s, ok := v.Interface().(fmt.Stringer); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
			fmt.Fprintf(w, " %s\n", s)
			return
		}
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			w.WriteString(" none\n")
			return
		}
		show(w, v.Elem(), depth)
	case reflect.Struct:
		w.WriteString("\n")
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fmt.Fprintf(w, "%s%s:", indent, v.Type().Field(i).Name)
				show(w, f, depth+1)
			}
		}
	case reflect.Slice:
		w.WriteString("\n")
		for i := range v.Len() {
			fmt.Fprintf(w, "%s-", indent)
			show(w, v.Index(i), depth+1)
		}
	default:
		fmt.Fprintf(w, " %v\n", v.Interface())
	}
}

// TestInvalidClientPolicies breaks one rule of a good policy at a time.
func TestInvalidClientPolicies(t *testing.T) {
	type policy = *outboundpb.OutboundPolicy
	detect := func(p policy) *outboundpb.ProxyProtocol_Detect { return p.GetProtocol().GetDetect() }
	route := func(p policy) *outboundpb.HttpRoute { return detect(p).GetHttp1().GetRoutes()[0] }
	rule := func(p policy) *outboundpb.HttpRoute_Rule { return route(p).GetRules()[0] }
	backend := func(p policy) *outboundpb.Backend {
		return rule(p).GetBackends().GetFirstAvailable().GetBackends()[0].GetBackend()
	}
	match := func(m *httproutepb.HttpRouteMatch) func(policy) {
		return func(p policy) { rule(p).Matches = []*httproutepb.HttpRouteMatch{m} }
	}
	filter := func(f *outboundpb.HttpRoute_Filter) func(policy) {
		return func(p policy) { rule(p).Filters = []*outboundpb.HttpRoute_Filter{f} }
	}
	redirect := func(r *httproutepb.RequestRedirect) func(policy) {
		return filter(&outboundpb.HttpRoute_Filter{Kind: &outboundpb.HttpRoute_Filter_Redirect{Redirect: r}})
	}
	accrual := func(f *outboundpb.FailureAccrual) func(policy) {
		return func(p policy) { detect(p).Http1.FailureAccrual = f }
	}
	backoff := func(lo, hi time.Duration) *outboundpb.ExponentialBackoff {
		return &outboundpb.ExponentialBackoff{MinBackoff: durationpb.New(lo), MaxBackoff: durationpb.New(hi)}
	}
	for name, c := range map[string]struct {
		change func(policy)
		want   string
	}{
		"metadata":                {func(p policy) { p.Metadata = nil }, "metadata: missing"},
		"metadata namespace":      {func(p policy) { p.GetMetadata().GetResource().Namespace = "" }, "metadata resource namespace: missing"},
		"metadata group":          {func(p policy) { p.GetMetadata().GetResource().Group = "" }, "metadata resource group: missing"},
		"protocol":                {func(p policy) { p.Protocol = nil }, "protocol: missing"},
		"protocol kind":           {func(p policy) { p.Protocol.Kind = nil }, "protocol: missing"},
		"detect timeout":          {func(p policy) { detect(p).Timeout = nil }, "detect timeout: missing"},
		"detect timeout negative": {func(p policy) { detect(p).Timeout = durationpb.New(-1) }, "negative duration"},
		"detect opaque":           {func(p policy) { detect(p).Opaque = nil }, "opaque, http1 or http2"},
		"route metadata":          {func(p policy) { route(p).Metadata = &metapb.Metadata{} }, "route: metadata: missing"},
		"distribution":            {func(p policy) { rule(p).Backends = nil }, "route default/http: distribution: missing"},
		"no backends":             {func(p policy) { rule(p).GetBackends().GetFirstAvailable().Backends = nil }, "backends: missing"},
		"backend":                 {func(p policy) { rule(p).GetBackends().GetFirstAvailable().Backends[0].Backend = nil }, "backend: missing"},
		"backend metadata":        {func(p policy) { backend(p).Metadata = testcontrol.Resource("Service", "ns", "", 0) }, "backend: metadata resource name: missing"},
		"queue":                   {func(p policy) { backend(p).Queue = nil }, "backend core/Service/ns/web:80: queue: missing"},
		"failfast":                {func(p policy) { backend(p).Queue.FailfastTimeout = nil }, "failfast timeout: missing"},
		"discovery":               {func(p policy) { backend(p).GetBalancer().Discovery = nil }, "discovery: missing"},
		"load":                    {func(p policy) { backend(p).GetBalancer().Load = nil }, "load: missing"},
		"session affinity": {func(p policy) {
			backend(p).GetBalancer().SessionAffinity = &outboundpb.SessionAffinity{By: &outboundpb.SessionAffinity_Cookie{}}
		}, "name of session affinity: missing"},
		"decay": {func(p policy) { backend(p).GetBalancer().GetPeakEwma().Decay = nil }, "decay: missing"},
		"forward": {func(p policy) {
			backend(p).Kind = &outboundpb.Backend_Forward{Forward: &destinationpb.WeightedAddr{}}
		}, "address to forward to: missing"},
		"host":           {func(p policy) { route(p).Hosts = []*httproutepb.HostMatch{{}} }, "host match: missing"},
		"host is an ip":  {func(p policy) { route(p).Hosts = exactHost("10.0.0.1") }, "is an IP address"},
		"path":           {match(&httproutepb.HttpRouteMatch{Path: &httproutepb.PathMatch{}}), "path match kind: missing"},
		"path regex":     {match(&httproutepb.HttpRouteMatch{Path: &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Regex{Regex: "("}}}), "missing closing )"},
		"header name":    {match(&httproutepb.HttpRouteMatch{Headers: []*httproutepb.HeaderMatch{{Name: "a b"}}}), "header name \"a b\" is not valid"},
		"header value":   {match(&httproutepb.HttpRouteMatch{Headers: []*httproutepb.HeaderMatch{{Name: "a"}}}), "header value: missing"},
		"query":          {match(&httproutepb.HttpRouteMatch{QueryParams: []*httproutepb.QueryParamMatch{{Name: "a"}}}), "query parameter value: missing"},
		"method":         {match(&httproutepb.HttpRouteMatch{Method: &httptypespb.HttpMethod{}}), "method: missing"},
		"unknown method": {match(&httproutepb.HttpRouteMatch{Method: &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: 99}}}), "unknown method 99"},
		"filter kind":    {filter(&outboundpb.HttpRoute_Filter{}), "filter kind: missing"},
		"modifier": {filter(&outboundpb.HttpRoute_Filter{Kind: &outboundpb.HttpRoute_Filter_RequestHeaderModifier{
			RequestHeaderModifier: &httproutepb.RequestHeaderModifier{Remove: []string{""}}}}), "header name \"\" is not valid"},
		"ratio": {filter(&outboundpb.HttpRoute_Filter{Kind: &outboundpb.HttpRoute_Filter_FailureInjector{
			FailureInjector: &httproutepb.HttpFailureInjector{Status: 500, Ratio: &httproutepb.Ratio{Numerator: 1}}}}), "ratio 1/0 is not valid"},
		"failure status": {filter(&outboundpb.HttpRoute_Filter{Kind: &outboundpb.HttpRoute_Filter_FailureInjector{
			FailureInjector: &httproutepb.HttpFailureInjector{Status: 0}}}), "failure status 0 is not valid"},
		"redirect host":    {redirect(&httproutepb.RequestRedirect{Host: "a b"}), "redirect: host \"a b\" is not valid"},
		"redirect port":    {redirect(&httproutepb.RequestRedirect{Port: 70000}), "redirect: port 70000 is not valid"},
		"redirect status":  {redirect(&httproutepb.RequestRedirect{Status: 1000}), "redirect: status 1000 is not valid"},
		"redirect path":    {redirect(&httproutepb.RequestRedirect{Path: &httproutepb.PathModifier{Replace: &httproutepb.PathModifier_Full{Full: "x"}}}), "redirect: path \"x\" is not valid"},
		"timeouts":         {func(p policy) { rule(p).Timeouts = &httproutepb.Timeouts{Idle: durationpb.New(-1)} }, "idle timeout: negative"},
		"retry conditions": {func(p policy) { rule(p).Retry = &outboundpb.HttpRoute_Retry{} }, "retry conditions: missing"},
		"retry statuses": {func(p policy) {
			rule(p).Retry = &outboundpb.HttpRoute_Retry{Conditions: &outboundpb.HttpRoute_Retry_Conditions{
				StatusRanges: []*outboundpb.HttpRoute_Retry_Conditions_StatusRange{{Start: 500, End: 600}}}}
		}, "retry status range 500 to 600 is not valid"},
		"max retries": {func(p policy) {
			rule(p).Retry = &outboundpb.HttpRoute_Retry{MaxRetries: 70000, Conditions: &outboundpb.HttpRoute_Retry_Conditions{}}
		}, "max retries 70000 is too many"},
		"retry backoff": {func(p policy) {
			rule(p).Retry = &outboundpb.HttpRoute_Retry{Conditions: &outboundpb.HttpRoute_Retry_Conditions{}, Backoff: &outboundpb.ExponentialBackoff{}}
		}, "min backoff: missing"},
		"accrual kind":    {accrual(&outboundpb.FailureAccrual{}), "failure accrual kind: missing"},
		"accrual backoff": {accrual(consecutive(nil)), "failure accrual: backoff: missing"},
		"ejection": {accrual(&outboundpb.FailureAccrual{
			Kind: consecutive(backoff(1, 2)).Kind, Ejection: &outboundpb.EjectionConfig{MinReadyPercent: 101},
		}), "101 percent of the endpoints cannot stay in"},
		"retry budget": {func(p policy) {
			rule(p).Retry = &outboundpb.HttpRoute_Retry{
				Conditions: &outboundpb.HttpRoute_Retry_Conditions{}, Budget: &destinationpb.RetryBudget{RetryRatio: 1001},
			}
		}, "retry budget is not valid"},
		"accrual max < min": {accrual(consecutive(backoff(2, 1))), "backoff from 2ns to 1ns is not valid"},
		"accrual max 0":     {accrual(consecutive(backoff(0, 0))), "is not valid"},
		"unified threshold": {accrual(unified(&outboundpb.FailureAccrual_Unified{SuccessRateThreshold: 1.5, Backoff: backoff(1, 2)})), "threshold 1.5 is not valid"},
		"unified window":    {accrual(unified(&outboundpb.FailureAccrual_Unified{SuccessRateThreshold: 0.5, Decay: durationpb.New(time.Millisecond), Backoff: backoff(1, 2)})), "window 1ms is too short"},
		"unified requests":  {accrual(unified(&outboundpb.FailureAccrual_Unified{MinRequests: 1000001, Backoff: backoff(1, 2)})), "min requests 1000001 is too many"},
		"two opaque routes": {func(p policy) {
			o := detect(p).Opaque
			o.Routes = append(o.Routes, o.Routes[0])
		}, "more than one route"},
		"two opaque rules": {func(p policy) {
			r := detect(p).Opaque.Routes[0]
			r.Rules = append(r.Rules, r.Rules[0])
		}, "exactly one rule"},
		"rpc": {func(p policy) {
			p.Protocol.Kind = &outboundpb.ProxyProtocol_Grpc_{Grpc: &outboundpb.ProxyProtocol_Grpc{Routes: []*outboundpb.GrpcRoute{{
				Metadata: testcontrol.Default("x"), Rules: []*outboundpb.GrpcRoute_Rule{{Matches: []*grpcroutepb.GrpcRouteMatch{{}}}}}}}}
		}, "route default/x: rpc match: missing"},
	} {
		p := testcontrol.ServicePolicy("ns", "web", 80)
		if _, err := decode.ClientPolicy(lean(p, new(leanoutbound.OutboundPolicy))); err != nil {
			t.Fatal(err)
		}
		c.change(p)
		got, err := decode.ClientPolicy(lean(p, new(leanoutbound.OutboundPolicy)))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "invalid client policy: ") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if got.Invalid == "" || got.Parent != model.Default("invalid") || got.Protocol != model.ProtocolDetect || len(got.HTTP1.Routes.List) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func exactHost(h string) []*httproutepb.HostMatch {
	return []*httproutepb.HostMatch{{Match: &httproutepb.HostMatch_Exact{Exact: h}}}
}

func consecutive(b *outboundpb.ExponentialBackoff) *outboundpb.FailureAccrual {
	return &outboundpb.FailureAccrual{Kind: &outboundpb.FailureAccrual_ConsecutiveFailures_{
		ConsecutiveFailures: &outboundpb.FailureAccrual_ConsecutiveFailures{MaxFailures: 7, Backoff: b}}}
}

func unified(u *outboundpb.FailureAccrual_Unified) *outboundpb.FailureAccrual {
	return &outboundpb.FailureAccrual{Kind: &outboundpb.FailureAccrual_Unified_{Unified: u}}
}

func TestInvalidServers(t *testing.T) {
	type server = *inboundpb.Server
	authz := func(s server) *inboundpb.Authz { return s.Authorizations[0] }
	for name, c := range map[string]struct {
		change func(server)
		want   string
	}{
		"protocol":       {func(s server) { s.Protocol = nil }, "protocol: missing"},
		"detect timeout": {func(s server) { s.GetProtocol().GetDetect().Timeout = nil }, "detect timeout: missing"},
		"name":           {func(s server) { delete(s.Labels, "name") }, "label name: missing"},
		"networks":       {func(s server) { authz(s).Networks = nil }, "networks of authorization all-unauthenticated: missing"},
		"net":            {func(s server) { authz(s).Networks[0].Net = nil }, "network address: missing"},
		"prefix":         {func(s server) { authz(s).Networks[0].Net.PrefixLen = 33 }, "prefix length 33 is too long"},
		"except":         {func(s server) { authz(s).Networks[0].Except = []*netpb.IPNetwork{{}} }, "exception: network address: missing"},
		"authentication": {func(s server) { authz(s).Authentication = nil }, "authentication of authorization all-unauthenticated: missing"},
		"clients": {func(s server) {
			authz(s).Authentication.Permit = &inboundpb.Authn_MeshTLS{MeshTLS: &inboundpb.Authn_PermitMeshTLS{}}
		}, "clients of authorization all-unauthenticated: missing"},
		"identity": {func(s server) { s.Authorizations[0] = testcontrol.Permit("x", []string{"a b"}) }, "not a valid identity"},
		"route":    {func(s server) { s.GetProtocol().GetDetect().HttpRoutes = []*inboundpb.HttpRoute{{}} }, "route: metadata: missing"},
		"rate limit": {func(s server) {
			s.GetProtocol().GetDetect().HttpLocalRateLimit = &inboundpb.HttpLocalRateLimit{}
		}, "rate limit: metadata: missing"},
		"burst": {func(s server) {
			s.GetProtocol().GetDetect().HttpLocalRateLimit = &inboundpb.HttpLocalRateLimit{
				Metadata: testcontrol.Resource("HTTPLocalRateLimitPolicy", "ns", "limit", 0), Burst: durationpb.New(-1),
			}
		}, "rate limit burst: negative duration"},
		"gRPC rate limit": {func(s server) {
			s.Protocol.Kind = &inboundpb.ProxyProtocol_Grpc_{Grpc: &inboundpb.ProxyProtocol_Grpc{LocalRateLimit: &inboundpb.HttpLocalRateLimit{}}}
		}, "rate limit: metadata: missing"},
	} {
		s := testcontrol.OpenServer()
		if _, err := decode.Server(lean(s, new(leaninbound.Server)), time.Second); err != nil {
			t.Fatal(err)
		}
		c.change(s)
		got, err := decode.Server(lean(s, new(leaninbound.Server)), time.Second)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "invalid server policy: ") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if got.Invalid == "" || len(got.Authorizations) != 0 || got.Protocol != model.ProtocolDetect || got.DetectTimeout != time.Second {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestSharedRateLimit: shares and bursts arrive.
func TestSharedRateLimit(t *testing.T) {
	s := testcontrol.OpenServer()
	s.GetProtocol().GetDetect().HttpLocalRateLimit = &inboundpb.HttpLocalRateLimit{
		Metadata: testcontrol.Resource("HTTPLocalRateLimitPolicy", "ns", "limit", 0),
		Identity: &inboundpb.HttpLocalRateLimit_Limit{RequestsPerSecond: 7},
		Burst:    durationpb.New(5 * time.Second), Replicas: 3,
	}
	got, err := decode.Server(lean(s, new(leaninbound.Server)), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if l := got.RateLimit; l == nil || l.Identity != 7 || l.Total != 0 || l.Burst != 5*time.Second || !l.Shared {
		t.Errorf("got %+v", l)
	}
}
