package observeapi

import (
	"errors"
	"net/netip"
	"strings"

	httptypespb "github.com/linkerd-go/linkerd-go/api/lean/httptypes"
	netpb "github.com/linkerd-go/linkerd-go/api/lean/net"
	tappb "github.com/linkerd-go/linkerd-go/api/lean/tap"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// Reasons why a match is refused, as clients get them.
var (
	errMissing = errors.New("missing required field")
	errPort    = errors.New("invalid port number")
	errNetwork = errors.New("invalid network address")
	errMethod  = errors.New("invalid http method")
	errScheme  = errors.New("invalid request scheme")
)

// matcher decides whether a request is wanted.
type matcher func(*tap.Request) bool

// compile makes a matcher of a tree.
func compile(m *tappb.ObserveRequest_Match) (matcher, error) {
	if m == nil {
		return nil, errMissing
	}
	switch k := m.Match.(type) {
	case *tappb.ObserveRequest_Match_All:
		list, err := compileAll(k.All)
		return func(r *tap.Request) bool {
			for _, f := range list {
				if !f(r) {
					return false
				}
			}
			return true
		}, err
	case *tappb.ObserveRequest_Match_Any:
		list, err := compileAll(k.Any)
		return func(r *tap.Request) bool {
			for _, f := range list {
				if f(r) {
					return true
				}
			}
			return false
		}, err
	case *tappb.ObserveRequest_Match_Not:
		f, err := compile(k.Not)
		return func(r *tap.Request) bool { return !f(r) }, err
	case *tappb.ObserveRequest_Match_Source:
		return compileTCP(k.Source, func(r *tap.Request) netip.AddrPort { return r.Source })
	case *tappb.ObserveRequest_Match_Destination:
		return compileTCP(k.Destination, func(r *tap.Request) netip.AddrPort { return r.Destination })
	case *tappb.ObserveRequest_Match_Http_:
		return compileHTTP(k.Http)
	case *tappb.ObserveRequest_Match_DestinationLabel:
		return compileLabel(k.DestinationLabel, func(r *tap.Request) model.Labels { return r.DestinationLabels })
	case *tappb.ObserveRequest_Match_RouteLabel:
		return compileLabel(k.RouteLabel, func(r *tap.Request) model.Labels { return r.RouteLabels })
	}
	return nil, errMissing
}

// compileAll leaves out matches that say nothing.
func compileAll(s *tappb.ObserveRequest_Match_Seq) ([]matcher, error) {
	var out []matcher
	for _, m := range s.GetMatches() {
		if m.GetMatch() == nil {
			continue
		}
		f, err := compile(m)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func compileLabel(l *tappb.ObserveRequest_Match_Label, of func(*tap.Request) model.Labels) (matcher, error) {
	if l.GetKey() == "" || l.GetValue() == "" {
		return nil, errMissing
	}
	return func(r *tap.Request) bool {
		v, ok := of(r).Get(l.Key)
		return ok && v == l.Value
	}, nil
}

func compileTCP(t *tappb.ObserveRequest_Match_Tcp, of func(*tap.Request) netip.AddrPort) (matcher, error) {
	switch k := t.GetMatch().(type) {
	case *tappb.ObserveRequest_Match_Tcp_Netmask_:
		addr, ok := address(k.Netmask.GetIp())
		if !ok {
			return nil, errMissing
		}
		p := netip.PrefixFrom(addr, int(k.Netmask.GetMask()))
		if k.Netmask.GetMask() > 128 || !p.IsValid() {
			return nil, errNetwork
		}
		p = p.Masked()
		return func(r *tap.Request) bool { return p.Contains(of(r).Addr().Unmap()) }, nil
	case *tappb.ObserveRequest_Match_Tcp_Ports:
		lo, hi := k.Ports.GetMin(), k.Ports.GetMax()
		if hi == 0 {
			hi = lo
		}
		if lo > 65535 || hi > 65535 || hi < lo {
			return nil, errPort
		}
		return func(r *tap.Request) bool {
			port := uint32(of(r).Port())
			return lo <= port && port <= hi
		}, nil
	}
	return nil, errMissing
}

// address converts an IP address.
func address(ip *netpb.IPAddress) (netip.Addr, bool) {
	switch k := ip.GetIp().(type) {
	case *netpb.IPAddress_Ipv4:
		return netip.AddrFrom4([4]byte{byte(k.Ipv4 >> 24), byte(k.Ipv4 >> 16), byte(k.Ipv4 >> 8), byte(k.Ipv4)}), true
	case *netpb.IPAddress_Ipv6:
		var b [16]byte
		for i := range 8 {
			b[i], b[8+i] = byte(k.Ipv6.GetFirst()>>(56-8*i)), byte(k.Ipv6.GetLast()>>(56-8*i))
		}
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}

func compileHTTP(h *tappb.ObserveRequest_Match_Http) (matcher, error) {
	switch k := h.GetMatch().(type) {
	case *tappb.ObserveRequest_Match_Http_Scheme:
		want, ok := schemeName(k.Scheme)
		if !ok {
			return nil, errScheme
		}
		return func(r *tap.Request) bool {
			s := string(r.Head.Scheme)
			if s == "" {
				s = "http"
			}
			return strings.EqualFold(s, want)
		}, nil
	case *tappb.ObserveRequest_Match_Http_Method:
		want, ok := methodName(k.Method)
		if !ok {
			return nil, errMethod
		}
		return func(r *tap.Request) bool { return string(r.Head.Method) == want }, nil
	case *tappb.ObserveRequest_Match_Http_Authority:
		f, err := compileString(k.Authority)
		return func(r *tap.Request) bool { return f(string(route.Authority(r.Head))) }, err
	case *tappb.ObserveRequest_Match_Http_Path:
		f, err := compileString(k.Path)
		return func(r *tap.Request) bool {
			path, _, _ := strings.Cut(string(r.Head.Path), "?")
			return f(path)
		}, err
	}
	return nil, errMissing
}

func compileString(m *tappb.ObserveRequest_Match_Http_StringMatch) (func(string) bool, error) {
	switch k := m.GetMatch().(type) {
	case *tappb.ObserveRequest_Match_Http_StringMatch_Exact:
		return func(s string) bool { return s == k.Exact }, nil
	case *tappb.ObserveRequest_Match_Http_StringMatch_Prefix:
		return func(s string) bool { return strings.HasPrefix(s, k.Prefix) }, nil
	}
	return nil, errMissing
}

func schemeName(s *httptypespb.Scheme) (string, bool) {
	switch k := s.GetType().(type) {
	case *httptypespb.Scheme_Registered_:
		name, ok := httptypespb.Scheme_Registered_name[int32(k.Registered)]
		return strings.ToLower(name), ok
	case *httptypespb.Scheme_Unregistered:
		return k.Unregistered, k.Unregistered != ""
	}
	return "", false
}

func methodName(m *httptypespb.HttpMethod) (string, bool) {
	switch k := m.GetType().(type) {
	case *httptypespb.HttpMethod_Registered_:
		name, ok := httptypespb.HttpMethod_Registered_name[int32(k.Registered)]
		return name, ok
	case *httptypespb.HttpMethod_Unregistered:
		return k.Unregistered, k.Unregistered != "" && !strings.ContainsAny(k.Unregistered, " \t\r\n")
	}
	return "", false
}
