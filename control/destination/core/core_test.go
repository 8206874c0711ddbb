package core_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

func TestSplitPath(t *testing.T) {
	for _, c := range []struct {
		path, host string
		port       uint16
		bad        bool
	}{
		{path: "web.emo.svc.cluster.local", host: "web.emo.svc.cluster.local", port: 80},
		{path: "web:8080", host: "web", port: 8080},
		{path: "[fd00::1]:80", host: "fd00::1", port: 80},
		{path: "fd00::1", bad: true},
		{path: "web:", bad: true},
		{path: "web:0", bad: true},
		{path: "web:65536", bad: true},
		{path: "web:-1", bad: true},
	} {
		host, port, err := core.SplitPath(c.path)
		if host != c.host || port != c.port || (err != nil) != c.bad {
			t.Errorf("%q: got %q, %d, %v", c.path, host, port, err)
		}
	}
}

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		host string
		want core.Name
		bad  bool
	}{
		{host: "web.emo.svc.cluster.local", want: core.Name{Service: core.ID{Namespace: "emo", Name: "web"}}},
		{host: "web-0.web.emo.svc.cluster.local", want: core.Name{Service: core.ID{Namespace: "emo", Name: "web"}, Instance: "web-0"}},
		{host: "web.emo.svc.cluster.local.", bad: true},
		{host: "web.emo.svc.example.com", bad: true},
		{host: "web.emo.pod.cluster.local", bad: true},
		{host: "emo.svc.cluster.local", bad: true},
		{host: "a.b.c.d.svc.cluster.local", bad: true},
		{host: ".emo.svc.cluster.local", bad: true},
		{host: "", bad: true},
	} {
		got, err := core.ParseName(c.host, "cluster.local")
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: got %+v, %v", c.host, got, err)
		}
	}
}

func TestParseToken(t *testing.T) {
	for _, c := range []struct {
		text        string
		want        core.Token
		bad, legacy bool
	}{
		{text: ""},
		{text: "{\"ns\":\"emo\", \"nodeName\":\"n1\", \"pod\":\"web-0\"}\n", want: core.Token{Namespace: "emo", Node: "n1", Pod: "web-0"}},
		{text: `{"ns":"emo","new":1}`, want: core.Token{Namespace: "emo"}},
		{text: "ns:emo", want: core.Token{Namespace: "emo"}, bad: true, legacy: true},
		{text: "ns:emo:x", bad: true},
		{text: "pod:emo", bad: true},
		{text: "nonsense", bad: true},
	} {
		got, err := core.ParseToken(c.text)
		if got != c.want || (err != nil) != c.bad || errors.Is(err, core.ErrLegacyToken) != c.legacy {
			t.Errorf("%q: got %+v, %v", c.text, got, err)
		}
	}
}

// entries makes a random list of entries, sorted by address.
func entries(random *rand.Rand) []core.Entry {
	var list []core.Entry
	for i := range byte(20) {
		if random.IntN(2) == 0 {
			list = append(list, core.Entry{
				Endpoint: &core.Endpoint{
					Addr:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 80),
					Weight: uint32(random.IntN(2)),
				},
				Locality: core.Locality(random.IntN(2)),
			})
		}
	}
	return list
}

// apply does what a client does with a delta.
func apply(state map[netip.AddrPort]core.Entry, delta core.Delta) {
	for _, e := range delta.Add {
		state[e.Addr] = e
	}
	for _, addr := range delta.Remove {
		delete(state, addr)
	}
}

// TestSnapshots lets clients follow random snapshots, of which each takes only some, and compares what they end up with.
func TestSnapshots(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var snapshot, last *core.Snapshot
		state := map[netip.AddrPort]core.Entry{}
		shared := 0
		for range 10 {
			next := core.NewSnapshot(snapshot, true, nil, entries(random))
			if again := core.NewSnapshot(next, true, nil, slices.Clone(next.Entries)); again != next {
				t.Fatal("a snapshot without a difference is a new one")
			}
			snapshot = next
			if random.IntN(3) == 0 {
				continue // too slow for this one
			}
			delta, isShared := snapshot.Since(last)
			if isShared {
				shared++
			}
			apply(state, delta)
			last = snapshot
			if len(state) != len(snapshot.Entries) {
				t.Fatalf("client has %d entries, want %d", len(state), len(snapshot.Entries))
			}
			for _, want := range snapshot.Entries {
				if got, ok := state[want.Addr]; !ok || !got.Equal(want) {
					t.Fatalf("client has %+v, want %+v", got, want)
				}
			}
		}
		if delta, _ := snapshot.Since(snapshot); !delta.Empty() {
			t.Fatalf("difference to itself: %+v", delta)
		}
	}
}
