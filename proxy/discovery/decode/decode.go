// Package decode turns messages of the proxy API into the proxy's own types and
// checks them on the way (proxy API chapter, sections 3.10, 5.8 and 6.9). It is
// pure; one file per type.
//
// A policy that breaks a rule is replaced as a whole by an explicit "invalid"
// one: half a policy could let pass what the other half forbids. Endpoints and
// profiles are more lenient, as their sections say.
package decode

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	httptypespb "github.com/linkerd-go/linkerd-go/api/lean/httptypes"
	metapb "github.com/linkerd-go/linkerd-go/api/lean/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/lean/net"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// errMissing is wrapped for fields that have to be there.
var errMissing = errors.New("missing")

func missing(what string) error { return fmt.Errorf("%s: %w", what, errMissing) }

// duration requires d to be there, valid and not negative.
func duration(d *lean.Duration, what string) (time.Duration, error) {
	if d == nil {
		return 0, missing(what)
	}
	return optionalDuration(d, what)
}

// optionalDuration is 0 if d is not there.
func optionalDuration(d *lean.Duration, what string) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if v := d.AsDuration(); v >= 0 {
		return v, nil
	}
	return 0, fmt.Errorf("%s: negative duration %v", what, d.AsDuration())
}

// Addr decodes an IP address.
func Addr(a *netpb.IPAddress) (netip.Addr, bool) {
	switch ip := a.GetIp().(type) {
	case *netpb.IPAddress_Ipv4:
		v := ip.Ipv4
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
	case *netpb.IPAddress_Ipv6:
		var b [16]byte
		for i := range 8 {
			b[i] = byte(ip.Ipv6.GetFirst() >> (56 - 8*i))
			b[8+i] = byte(ip.Ipv6.GetLast() >> (56 - 8*i))
		}
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}

// AddrPort decodes a TCP address; the port is cut off at 16 bits.
func AddrPort(a *netpb.TcpAddress) (netip.AddrPort, bool) {
	ip, ok := Addr(a.GetIp())
	return netip.AddrPortFrom(ip, uint16(a.GetPort())), ok
}

// EncodeAddr is the reverse of AddrPort, for requests.
func EncodeAddr(a netip.AddrPort) *netpb.TcpAddress {
	ip := a.Addr().Unmap()
	out := &netpb.TcpAddress{Port: uint32(a.Port())}
	if ip.Is4() {
		b := ip.As4()
		out.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{
			Ipv4: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])}}
		return out
	}
	b := ip.As16()
	var first, last uint64
	for i := range 8 {
		first = first<<8 | uint64(b[i])
		last = last<<8 | uint64(b[8+i])
	}
	out.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{First: first, Last: last}}}
	return out
}

func network(n *netpb.IPNetwork) (netip.Prefix, error) {
	ip, ok := Addr(n.GetIp())
	if !ok {
		return netip.Prefix{}, missing("network address")
	}
	if n.GetPrefixLen() > uint32(ip.BitLen()) {
		return netip.Prefix{}, fmt.Errorf("prefix length %d is too long for %v", n.GetPrefixLen(), ip)
	}
	return netip.PrefixFrom(ip, int(n.GetPrefixLen())).Masked(), nil
}

// outboundMeta decodes the metadata of outbound messages, which name a cluster
// resource completely or not at all.
func outboundMeta(m *metapb.Metadata) (model.Meta, error) {
	switch k := m.GetKind().(type) {
	case *metapb.Metadata_Default:
		return model.Default(k.Default), nil
	case *metapb.Metadata_Resource:
		r := k.Resource
		for _, f := range [...][2]string{{"group", r.GetGroup()}, {"kind", r.GetKind()}, {"name", r.GetName()}, {"namespace", r.GetNamespace()}} {
			if f[1] == "" {
				return model.Meta{}, missing("metadata resource " + f[0])
			}
		}
		return resource(r), nil
	}
	return model.Meta{}, missing("metadata")
}

func resource(r *metapb.Resource) model.Meta {
	m := model.Meta{Group: r.GetGroup(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName(), Section: r.GetSection()}
	if p := r.GetPort(); p <= 65535 {
		m.Port = uint16(p)
	}
	return m
}

// inboundMeta decodes the metadata of inbound messages, of which only three
// parts are used.
func inboundMeta(m *metapb.Metadata) (model.Meta, error) {
	switch k := m.GetKind().(type) {
	case *metapb.Metadata_Default:
		return model.Default(k.Default), nil
	case *metapb.Metadata_Resource:
		return model.Meta{Group: k.Resource.GetGroup(), Kind: k.Resource.GetKind(), Name: k.Resource.GetName()}, nil
	}
	return model.Meta{}, missing("metadata")
}

// labelMeta reads a name from labels. Control planes older than the labels
// group and kind set only a name, "default:…" for implicit configurations;
// kind is then what they must have meant.
func labelMeta(labels map[string]string, kind string) (model.Meta, error) {
	name := labels["name"]
	if name == "" {
		return model.Meta{}, missing("label name")
	}
	k, ok := labels["kind"]
	switch {
	case !ok && strings.HasPrefix(name, "default:"):
		return model.Default(strings.TrimPrefix(name, "default:")), nil
	case !ok:
		return model.Meta{Group: "policy.linkerd.io", Kind: kind, Name: name}, nil
	case k == model.KindDefault:
		return model.Default(name), nil
	}
	return model.Meta{Group: labels["group"], Kind: k, Name: name}, nil
}

// method decodes an HTTP method.
func method(m *httptypespb.HttpMethod) (string, error) {
	switch t := m.GetType().(type) {
	case *httptypespb.HttpMethod_Registered_:
		if name, ok := httptypespb.HttpMethod_Registered_name[int32(t.Registered)]; ok {
			return name, nil
		}
		return "", fmt.Errorf("unknown method %d", t.Registered)
	case *httptypespb.HttpMethod_Unregistered:
		if !isToken(t.Unregistered) {
			return "", fmt.Errorf("method %q is not valid", t.Unregistered)
		}
		return t.Unregistered, nil
	}
	return "", missing("method")
}

// isToken reports whether s can be a method or a header name (RFC 9110, section
// 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s can be a header value.
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// headerName checks a header name and puts it into lower case.
func headerName(s string) (string, error) {
	if !isToken(s) {
		return "", fmt.Errorf("header name %q is not valid", s)
	}
	return strings.ToLower(s), nil
}
