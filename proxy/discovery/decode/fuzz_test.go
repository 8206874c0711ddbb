package decode_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	leandestination "github.com/linkerd-go/linkerd-go/api/lean/destination"
	leaninbound "github.com/linkerd-go/linkerd-go/api/lean/inbound"
	leanoutbound "github.com/linkerd-go/linkerd-go/api/lean/outbound"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
)

// seed adds the messages of the golden tests in their wire form.
func seed(f *testing.F, kind string, m proto.Message) {
	f.Helper()
	files, err := filepath.Glob("testdata/" + kind + "/*.txtpb")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds for %s: %v", kind, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		proto.Reset(m)
		if err := prototext.Unmarshal(text, m); err != nil {
			f.Fatal(err)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(nil))
}

// What a controller sends may be anything: it is read or refused, and what is
// read is either a policy or says that it is none.

func FuzzClientPolicy(f *testing.F) {
	seed(f, "outbound", new(outboundpb.OutboundPolicy))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(leanoutbound.OutboundPolicy)
		if m.ParseWire(b) != nil {
			return
		}
		if p, err := decode.ClientPolicy(m); err == nil && p == nil {
			t.Error("no policy and no error")
		}
	})
}

func FuzzServerPolicy(f *testing.F) {
	seed(f, "inbound", new(inboundpb.Server))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(leaninbound.Server)
		if m.ParseWire(b) != nil {
			return
		}
		if p, err := decode.Server(m, time.Second); err == nil && p == nil {
			t.Error("no policy and no error")
		}
	})
}

func FuzzProfile(f *testing.F) {
	seed(f, "profile", new(destinationpb.DestinationProfile))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(leandestination.DestinationProfile)
		if m.ParseWire(b) == nil {
			decode.Profile(m)
		}
	})
}
