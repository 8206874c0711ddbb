package wire

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	grpcroutepb "github.com/linkerd-go/linkerd-go/api/proto/grpcroute"
	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	httptypespb "github.com/linkerd-go/linkerd-go/api/proto/httptypes"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	opaqueroutepb "github.com/linkerd-go/linkerd-go/api/proto/opaqueroute"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
	tappb "github.com/linkerd-go/linkerd-go/api/proto/tap"
	tlsroutepb "github.com/linkerd-go/linkerd-go/api/proto/tlsroute"
	transportpb "github.com/linkerd-go/linkerd-go/api/proto/transport"
	vizpb "github.com/linkerd-go/linkerd-go/api/proto/viz"
	viznetpb "github.com/linkerd-go/linkerd-go/api/proto/viznet"
	viztappb "github.com/linkerd-go/linkerd-go/api/proto/viztap"
)

// files are all the sources under api/proto.
var files = []protoreflect.FileDescriptor{
	netpb.File_api_proto_net_net_proto,
	httptypespb.File_api_proto_httptypes_httptypes_proto,
	metapb.File_api_proto_meta_meta_proto,
	httproutepb.File_api_proto_httproute_httproute_proto,
	grpcroutepb.File_api_proto_grpcroute_grpcroute_proto,
	tlsroutepb.File_api_proto_tlsroute_tlsroute_proto,
	opaqueroutepb.File_api_proto_opaqueroute_opaqueroute_proto,
	destinationpb.File_api_proto_destination_destination_proto,
	identitypb.File_api_proto_identity_identity_proto,
	inboundpb.File_api_proto_inbound_inbound_proto,
	outboundpb.File_api_proto_outbound_outbound_proto,
	tappb.File_api_proto_tap_tap_proto,
	transportpb.File_api_proto_transport_transport_proto,
	spiffepb.File_api_proto_spiffe_spiffe_proto,
	viznetpb.File_api_proto_viznet_viznet_proto,
	vizpb.File_api_proto_viz_viz_proto,
	viztappb.File_api_proto_viztap_viztap_proto,
}

func TestContract(t *testing.T) {
	content, err := os.ReadFile("testdata/contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			want = append(want, strings.Join(strings.Fields(line), " "))
		}
	}
	var got []string
	for _, file := range files {
		got = appendFile(got, file)
	}

	slices.Sort(want)
	slices.Sort(got)
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			t.Errorf("the API lacks: %s", line)
		}
	}
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			t.Errorf("the contract lacks: %s", line)
		}
	}
	if len(slices.Compact(want)) != len(slices.Compact(got)) {
		t.Errorf("contract has %d lines, API has %d", len(want), len(got))
	}
}

// The rest of this file writes descriptors in the notation of the contract; the first
// lines of contract.txt explain it.

func appendFile(lines []string, file protoreflect.FileDescriptor) []string {
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			lines = append(lines, methodLine(methods.Get(j)))
		}
	}
	for i := range file.Enums().Len() {
		lines = appendEnum(lines, file.Enums().Get(i))
	}
	for i := range file.Messages().Len() {
		lines = appendMessage(lines, file.Messages().Get(i))
	}
	return lines
}

func methodLine(m protoreflect.MethodDescriptor) string {
	output := string(m.Output().FullName())
	if m.IsStreamingServer() {
		output = "stream " + output
	}
	input := string(m.Input().FullName())
	if m.IsStreamingClient() {
		input = "stream " + input
	}
	line := fmt.Sprintf("rpc /%s/%s (%s) returns (%s)", m.Parent().FullName(), m.Name(), input, output)
	if m.Options().(*descriptorpb.MethodOptions).GetDeprecated() {
		line += " deprecated"
	}
	return line
}

func appendEnum(lines []string, e protoreflect.EnumDescriptor) []string {
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		lines = append(lines, fmt.Sprintf("enum %s %s = %d", e.FullName(), v.Name(), v.Number()))
	}
	return lines
}

func appendMessage(lines []string, m protoreflect.MessageDescriptor) []string {
	if m.IsMapEntry() {
		return lines
	}
	line := "message " + string(m.FullName())
	if m.Options().(*descriptorpb.MessageOptions).GetDeprecated() {
		line += " deprecated"
	}
	lines = append(lines, line)
	for i := range m.ReservedRanges().Len() {
		r := m.ReservedRanges().Get(i)
		for n := r[0]; n < r[1]; n++ {
			lines = append(lines, fmt.Sprintf("reserved %s %d", m.FullName(), n))
		}
	}
	for i := range m.ReservedNames().Len() {
		lines = append(lines, fmt.Sprintf("reserved %s %s", m.FullName(), m.ReservedNames().Get(i)))
	}
	for i := range m.Fields().Len() {
		lines = append(lines, fieldLine(m.Fields().Get(i)))
	}
	for i := range m.Enums().Len() {
		lines = appendEnum(lines, m.Enums().Get(i))
	}
	for i := range m.Messages().Len() {
		lines = appendMessage(lines, m.Messages().Get(i))
	}
	return lines
}

func fieldLine(f protoreflect.FieldDescriptor) string {
	line := fmt.Sprintf("field %s = %d ", f.FullName(), f.Number())
	switch {
	case f.IsMap():
		line += fmt.Sprintf("map<%s,%s>", typeName(f.MapKey()), typeName(f.MapValue()))
	case f.IsList():
		line += "repeated " + typeName(f)
	default:
		line += typeName(f)
	}
	if o := f.ContainingOneof(); o != nil {
		line += " oneof " + string(o.Name())
	}
	if f.Options().(*descriptorpb.FieldOptions).GetDeprecated() {
		line += " deprecated"
	}
	return line
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	default:
		return f.Kind().String()
	}
}
