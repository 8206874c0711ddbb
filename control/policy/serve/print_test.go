package serve_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	httptypespb "github.com/linkerd-go/linkerd-go/api/proto/httptypes"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	tlsroutepb "github.com/linkerd-go/linkerd-go/api/proto/tlsroute"
)

// print writes a message as an outline: one line per value, chains of single fields on one line, addresses and durations as
// people write them. With a path, only what is below it.
func print(m proto.Message, path string) string {
	var out strings.Builder
	below := any(m.ProtoReflect())
	for name := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' }) {
		below = descend(below, name)
	}
	switch v := below.(type) {
	case nil:
		out.WriteString("  unset\n")
	case protoreflect.Message:
		printMessage(&out, v, "  ")
	case protoreflect.List:
		printList(&out, v, "  ")
	case protoreflect.Map:
		fmt.Fprintf(&out, "  %s\n", entries(v))
	default:
		fmt.Fprintf(&out, "  %v\n", v)
	}
	return out.String()
}

// descend returns a field of a message, or an element of a list by its index.
func descend(value any, name string) any {
	switch v := value.(type) {
	case protoreflect.Message:
		f := v.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return "no such field: " + name
		}
		if !v.Has(f) {
			return nil
		}
		return v.Get(f).Interface()
	case protoreflect.List:
		var i int
		if _, err := fmt.Sscan(name, &i); err != nil || i >= v.Len() {
			return nil
		}
		return v.Get(i).Interface()
	}
	return value
}

// short returns the one-line form of messages that have one.
func short(m proto.Message) (string, bool) {
	switch m := m.(type) {
	case *metapb.Metadata:
		if m.GetResource() == nil {
			return "default " + m.GetDefault(), true
		}
		r := m.GetResource()
		text := r.GetGroup() + "/" + r.GetKind() + " "
		if r.GetNamespace() != "" {
			text += r.GetNamespace() + "/"
		}
		text += r.GetName()
		if r.GetPort() != 0 {
			text += fmt.Sprintf(" port %d", r.GetPort())
		}
		return text, true
	case *durationpb.Duration:
		return m.AsDuration().String(), true
	case *netpb.IPAddress:
		return addr(m).String(), true
	case *netpb.IPNetwork:
		return netip.PrefixFrom(addr(m.GetIp()), int(m.GetPrefixLen())).String(), true
	case *netpb.TcpAddress:
		return netip.AddrPortFrom(addr(m.GetIp()), uint16(m.GetPort())).String(), true
	case *inboundpb.Network:
		text, _ := short(m.GetNet())
		for i, hole := range m.GetExcept() {
			except, _ := short(hole)
			text += map[bool]string{true: " except ", false: " and "}[i == 0] + except
		}
		return text, true
	case *inboundpb.Identity:
		return m.GetName(), true
	case *inboundpb.IdentitySuffix:
		return strings.Join(append([]string{"*"}, m.GetParts()...), "."), true
	case *inboundpb.HttpLocalRateLimit_Limit:
		return fmt.Sprintf("%d/s", m.GetRequestsPerSecond()), true
	case *httptypespb.HttpMethod:
		if _, ok := m.GetType().(*httptypespb.HttpMethod_Unregistered); ok {
			return "unregistered " + m.GetUnregistered(), true
		}
		return m.GetRegistered().String(), true
	case *httptypespb.Scheme:
		if _, ok := m.GetType().(*httptypespb.Scheme_Unregistered); ok {
			return "unregistered " + m.GetUnregistered(), true
		}
		return m.GetRegistered().String(), true
	case *httptypespb.Headers:
		var list []string
		for _, h := range m.GetHeaders() {
			list = append(list, fmt.Sprintf("%s: %s", h.GetName(), h.GetValue()))
		}
		return strings.Join(list, "; "), true
	case *httproutepb.HostMatch:
		if m.GetSuffix() != nil {
			return fmt.Sprintf("suffix %q", m.GetSuffix().GetReverseLabels()), true
		}
		return "exact " + m.GetExact(), true
	case *tlsroutepb.SniMatch:
		if m.GetSuffix() != nil {
			return fmt.Sprintf("suffix %q", m.GetSuffix().GetReverseLabels()), true
		}
		return "exact " + m.GetExact(), true
	case *outboundpb.ExponentialBackoff:
		text := fmt.Sprintf("%v to %v jitter %v", m.GetMinBackoff().AsDuration(), m.GetMaxBackoff().AsDuration(), m.GetJitterRatio())
		if m.GetRespectRetryAfterHint() {
			text += " respecting hints"
		}
		return text, true
	case *outboundpb.Queue:
		text := fmt.Sprintf("%d, %v", m.GetCapacity(), m.GetFailfastTimeout().AsDuration())
		if m.GetCapacitySet() {
			text += ", capacity set"
		}
		if m.GetFailfastTimeoutSet() {
			text += ", fail-fast set"
		}
		return text, true
	}
	return "", false
}

func addr(ip *netpb.IPAddress) netip.Addr {
	if v6 := ip.GetIpv6(); v6 != nil {
		var b [16]byte
		for i := range 8 {
			b[i], b[8+i] = byte(v6.GetFirst()>>(56-8*i)), byte(v6.GetLast()>>(56-8*i))
		}
		return netip.AddrFrom16(b)
	}
	n := ip.GetIpv4()
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// fields returns the fields that are set, in the order of their numbers.
func fields(m protoreflect.Message) []protoreflect.FieldDescriptor {
	var list []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		list = append(list, f)
		return true
	})
	slices.SortFunc(list, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	return list
}

func printMessage(out *strings.Builder, m protoreflect.Message, indent string) {
	if text, ok := short(m.Interface()); ok {
		fmt.Fprintf(out, "%s%s\n", indent, text)
		return
	}
	if len(fields(m)) == 0 {
		fmt.Fprintf(out, "%s{}\n", indent)
	}
	for _, f := range fields(m) {
		if detect, ok := m.Interface().(*outboundpb.ProxyProtocol_Detect); ok && f.Name() == "http2" && sameHTTP(detect) {
			fmt.Fprintf(out, "%shttp2: as http1\n", indent)
			continue
		}
		printField(out, f, m.Get(f), indent, "")
	}
}

// sameHTTP reports whether both versions of HTTP have the same routes, as they always should.
func sameHTTP(d *outboundpb.ProxyProtocol_Detect) bool {
	routes := func(list []*outboundpb.HttpRoute, accrual *outboundpb.FailureAccrual) proto.Message {
		return &outboundpb.ProxyProtocol_Http1{Routes: list, FailureAccrual: accrual}
	}
	return proto.Equal(routes(d.GetHttp1().GetRoutes(), d.GetHttp1().GetFailureAccrual()), routes(d.GetHttp2().GetRoutes(), d.GetHttp2().GetFailureAccrual()))
}

func printField(out *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value, indent, prefix string) {
	name := prefix + string(f.Name())
	switch {
	case f.IsMap():
		fmt.Fprintf(out, "%s%s: %s\n", indent, name, entries(v.Map()))
	case f.IsList():
		if f.Kind() != protoreflect.MessageKind {
			var list []string
			for i := range v.List().Len() {
				list = append(list, v.List().Get(i).String())
			}
			fmt.Fprintf(out, "%s%s: %s\n", indent, name, strings.Join(list, ", "))
			return
		}
		if v.List().Len() > 0 {
			var list []string
			for i := range v.List().Len() {
				text, ok := short(v.List().Get(i).Message().Interface())
				if !ok {
					break
				}
				list = append(list, text)
			}
			if len(list) == v.List().Len() {
				fmt.Fprintf(out, "%s%s: %s\n", indent, name, strings.Join(list, ", "))
				return
			}
		}
		fmt.Fprintf(out, "%s%s:\n", indent, name)
		printList(out, v.List(), indent)
	case f.Kind() == protoreflect.MessageKind:
		m := v.Message()
		if text, ok := short(m.Interface()); ok {
			fmt.Fprintf(out, "%s%s: %s\n", indent, name, text)
			return
		}
		switch set := fields(m); len(set) {
		case 0:
			fmt.Fprintf(out, "%s%s: {}\n", indent, name)
		case 1:
			printField(out, set[0], m.Get(set[0]), indent, name+".")
		default:
			fmt.Fprintf(out, "%s%s:\n", indent, name)
			printMessage(out, m, indent+"  ")
		}
	case f.Kind() == protoreflect.BytesKind:
		fmt.Fprintf(out, "%s%s: %q\n", indent, name, v.Bytes())
	default:
		fmt.Fprintf(out, "%s%s: %v\n", indent, name, v.Interface())
	}
}

func printList(out *strings.Builder, list protoreflect.List, indent string) {
	for i := range list.Len() {
		var element strings.Builder
		printMessage(&element, list.Get(i).Message(), indent+"  ")
		fmt.Fprintf(out, "%s- %s", indent, strings.TrimPrefix(element.String(), indent+"  "))
	}
}

// entries returns the entries of a map, in order.
func entries(m protoreflect.Map) string {
	var list []string
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		list = append(list, fmt.Sprintf("%s=%q", k, v.String()))
		return true
	})
	slices.Sort(list)
	return strings.Join(list, " ")
}
