package lean_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/linkerd-go/linkerd-go/api/lean"
	leandestination "github.com/linkerd-go/linkerd-go/api/lean/destination"
	leanidentity "github.com/linkerd-go/linkerd-go/api/lean/identity"
	leaninbound "github.com/linkerd-go/linkerd-go/api/lean/inbound"
	leanoutbound "github.com/linkerd-go/linkerd-go/api/lean/outbound"
	leanspiffe "github.com/linkerd-go/linkerd-go/api/lean/spiffe"
	leantap "github.com/linkerd-go/linkerd-go/api/lean/tap"
	leantrust "github.com/linkerd-go/linkerd-go/api/lean/trust"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
	tappb "github.com/linkerd-go/linkerd-go/api/proto/tap"
	trustpb "github.com/linkerd-go/linkerd-go/api/proto/trust"
)

// message is what the lean rendering can do.
type message interface {
	AppendWire([]byte) []byte
	ParseWire([]byte) error
}

// roots are the messages that are sent and received as a whole; all others are
// in them.
var roots = []struct {
	full proto.Message
	lean func() message
}{
	{&destinationpb.GetDestination{}, func() message { return new(leandestination.GetDestination) }},
	{&destinationpb.Update{}, func() message { return new(leandestination.Update) }},
	{&destinationpb.DestinationProfile{}, func() message { return new(leandestination.DestinationProfile) }},
	{&inboundpb.PortSpec{}, func() message { return new(leaninbound.PortSpec) }},
	{&inboundpb.Server{}, func() message { return new(leaninbound.Server) }},
	{&outboundpb.TrafficSpec{}, func() message { return new(leanoutbound.TrafficSpec) }},
	{&outboundpb.OutboundPolicy{}, func() message { return new(leanoutbound.OutboundPolicy) }},
	{&identitypb.CertifyRequest{}, func() message { return new(leanidentity.CertifyRequest) }},
	{&identitypb.CertifyResponse{}, func() message { return new(leanidentity.CertifyResponse) }},
	{&trustpb.GetBundleRequest{}, func() message { return new(leantrust.GetBundleRequest) }},
	{&trustpb.GetBundleResponse{}, func() message { return new(leantrust.GetBundleResponse) }},
	{&spiffepb.X509SVIDRequest{}, func() message { return new(leanspiffe.X509SVIDRequest) }},
	{&spiffepb.X509SVIDResponse{}, func() message { return new(leanspiffe.X509SVIDResponse) }},
	{&tappb.ObserveRequest{}, func() message { return new(leantap.ObserveRequest) }},
	{&tappb.TapEvent{}, func() message { return new(leantap.TapEvent) }},
}

// What one rendering writes the other reads, with the same meaning.
func TestBothRenderingsAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, root := range roots {
		name := root.full.ProtoReflect().Descriptor().FullName()
		for range 200 {
			want := root.full.ProtoReflect().New()
			fill(r, want, 0)
			b, err := proto.Marshal(want.Interface())
			if err != nil {
				t.Fatal(err)
			}
			m := root.lean()
			if err := m.ParseWire(b); err != nil {
				t.Fatalf("%s: %v\n%v", name, err, want)
			}
			got := root.full.ProtoReflect().New()
			if err := proto.Unmarshal(m.AppendWire(nil), got.Interface()); err != nil {
				t.Fatalf("%s: %v\n%v", name, err, want)
			}
			if !proto.Equal(want.Interface(), got.Interface()) {
				t.Fatalf("%s: %v\nbecame %v", name, want, got)
			}
		}
	}
}

// fill sets fields at random, zeros among them.
func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(depth+2) > 1 {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(3) {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(text(r)).MapKey(), scalar(r, f.MapValue()))
			}
		case f.IsList():
			for range r.IntN(3) {
				l := m.Mutable(f).List()
				if f.Message() == nil {
					l.Append(scalar(r, f))
					continue
				}
				fill(r, l.AppendMutable().Message(), depth+1)
			}
		case f.Message() != nil:
			fill(r, m.Mutable(f).Message(), depth+1)
		default:
			m.Set(f, scalar(r, f))
		}
	}
}

func text(r *rand.Rand) string {
	b := make([]byte, r.IntN(4)*r.IntN(60))
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return string(b)
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	n := r.Uint64() >> r.IntN(65)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 == 1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(n)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n % 100))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text(r)))
	}
	return protoreflect.ValueOfString(text(r))
}

// Whatever arrives, both renderings say whether it is a message, or ours is the
// stricter one: it knows no groups and has a lower limit of nesting.
func FuzzParse(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, root := range roots {
		m := root.full.ProtoReflect().New()
		fill(r, m, 0)
		b, err := proto.Marshal(m.Interface())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		root := roots[int(i)%len(roots)]
		m := root.lean()
		if err := m.ParseWire(b); err != nil {
			return
		}
		full := root.full.ProtoReflect().New().Interface()
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, full); err != nil {
			t.Fatalf("taken, but: %v", err)
		}
		again := root.full.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(m.AppendWire(nil), again); err != nil {
			t.Fatal(err)
		}
		if !equal(full, again) {
			t.Fatalf("%v\nbecame %v", full, again)
		}
	})
}

// equal compares by the wire, where values that are not numbers are the same.
func equal(a, b proto.Message) bool {
	o := proto.MarshalOptions{Deterministic: true}
	x, err1 := o.Marshal(a)
	y, err2 := o.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func TestParseRejects(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"tag without value", []byte{2<<3 | lean.Bytes}, lean.ErrTruncated},
		{"half a tag", []byte{0x80}, lean.ErrTruncated},
		{"string longer than the message", []byte{2<<3 | lean.Bytes, 5, 'a'}, lean.ErrTruncated},
		{"not text", []byte{2<<3 | lean.Bytes, 1, 0xff}, lean.ErrUTF8},
		{"field 0", []byte{0}, lean.ErrMalformed},
		{"group", []byte{9<<3 | 3}, lean.ErrMalformed},
		{"endless varint", []byte{9 << 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, lean.ErrMalformed},
		{"unknown fields of all kinds", []byte{9 << 3, 1, 9<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8, 9<<3 | 2, 1, 0, 9<<3 | 5, 1, 2, 3, 4, 2<<3 | 2, 1, 'a'}, nil},
		{"known field of another type", []byte{2 << 3, 1}, nil},
	} {
		if err := new(leandestination.GetDestination).ParseWire(c.b); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
	var nested []byte
	for range 200 {
		b, at := lean.Begin(nil, 3) // RequestMatch.not
		nested = lean.End(append(b, nested...), at)
	}
	if err := new(leandestination.RequestMatch).ParseWire(nested); !errors.Is(err, lean.ErrDepth) {
		t.Errorf("deeply nested: %v", err)
	}
}

// Durations and timestamps mean what those of the standard library mean.
func TestTimes(t *testing.T) {
	for _, s := range []int64{0, 1, -1, 60, 315576000000, 315576000001, -315576000001, 1 << 62, -1 << 62, 9223372036, -9223372036, 253402300800, -62135596801} {
		for _, n := range []int32{0, 1, -1, 999999999, -999999999, 1e9, -1e9} {
			d, full := &lean.Duration{Seconds: s, Nanos: n}, &durationpb.Duration{Seconds: s, Nanos: n}
			if d.AsDuration() != full.AsDuration() || (d.CheckValid() == nil) != (full.CheckValid() == nil) {
				t.Errorf("duration %d %d: %v, %v; want %v, %v", s, n, d.AsDuration(), d.CheckValid(), full.AsDuration(), full.CheckValid())
			}
			x, stamp := &lean.Timestamp{Seconds: s, Nanos: n}, &timestamppb.Timestamp{Seconds: s, Nanos: n}
			if !x.AsTime().Equal(stamp.AsTime()) || (x.CheckValid() == nil) != (stamp.CheckValid() == nil) {
				t.Errorf("timestamp %d %d: %v, %v; want %v, %v", s, n, x.AsTime(), x.CheckValid(), stamp.AsTime(), stamp.CheckValid())
			}
		}
	}
	if (*lean.Duration)(nil).CheckValid() == nil || (*lean.Timestamp)(nil).CheckValid() == nil {
		t.Error("nil is valid")
	}
	for _, d := range []time.Duration{0, time.Nanosecond, -1500 * time.Millisecond, time.Hour} {
		if got := lean.NewDuration(d).AsDuration(); got != d {
			t.Errorf("%v became %v", d, got)
		}
	}
	now := time.Now()
	if got := lean.NewTimestamp(now).AsTime(); !got.Equal(now) {
		t.Errorf("%v became %v", now, got)
	}
}
