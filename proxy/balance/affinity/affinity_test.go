package affinity

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
)

func endpoints(n int) []Candidate {
	list := make([]Candidate, n)
	for i := range list {
		list[i] = Candidate{Hash: Hash(netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250+1))), Weight: 1}
	}
	return list
}

func same(c Candidate) Candidate { return c }

// first is who has a key.
func first(key uint64, list []Candidate) Candidate {
	i, _ := Choose(key, math.Inf(1), 0, list, same)
	return list[i]
}

func keyOf(i int) uint64 { return Key(fmt.Appendf(nil, "user-%d", i)) }

// TestSpread: sessions are spread over the endpoints, by weight.
func TestSpread(t *testing.T) {
	const keys = 20_000
	for _, c := range []struct {
		name    string
		weights []uint64
	}{
		{"one", []uint64{1}},
		{"three", []uint64{1, 1, 1}},
		{"by weight", []uint64{10000, 20000, 10000, 0xffffffff / 1000}},
		{"many", []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		list := endpoints(len(c.weights))
		var sum uint64
		for i, w := range c.weights {
			list[i].Weight = w
			sum += w
		}
		got := map[uint64]float64{}
		for i := range keys {
			got[first(keyOf(i), list).Hash]++
		}
		for i, e := range list {
			want := keys * float64(c.weights[i]) / float64(sum)
			if off := math.Abs(got[e.Hash]-want) / (5 * math.Sqrt(want+1)); off > 1 {
				t.Errorf("%s: endpoint %d has %v keys, want about %.0f", c.name, i, got[e.Hash], want)
			}
		}
	}
}

// TestFewMove: of sessions only those move whose endpoint left, or that a new one
// takes; the order of the endpoints does not matter.
func TestFewMove(t *testing.T) {
	const n, keys = 10, 5000
	list := endpoints(n + 1)
	before, more, less := list[:n], list, list[1:n]
	turned := make([]Candidate, n)
	for i, e := range before {
		turned[n-1-i] = e
	}
	taken := 0
	for i := range keys {
		key := keyOf(i)
		was := first(key, before)
		if got := first(key, turned); got != was {
			t.Fatalf("key %d goes by the order of the endpoints", i)
		}
		switch now := first(key, more); {
		case now == was:
		case now == list[n]:
			taken++
		default:
			t.Fatalf("key %d moved between two endpoints because a third came", i)
		}
		if now := first(key, less); was != list[0] && now != was {
			t.Fatalf("key %d moved because an endpoint left that it was not at", i)
		}
	}
	if want := keys / (n + 1); taken < want*8/10 || taken > want*12/10 {
		t.Errorf("a new endpoint took %d of %d keys, want about %d", taken, keys, want)
	}
}

// TestNext: who does not get an endpoint gets the next, each once.
func TestNext(t *testing.T) {
	list := endpoints(5)
	seen := map[int]bool{}
	below := math.Inf(1)
	for {
		i, score := Choose(keyOf(1), below, 0, list, same)
		if i < 0 {
			break
		}
		if seen[i] || score >= below {
			t.Fatalf("endpoint %d again, with %v after %v", i, score, below)
		}
		seen[i], below = true, score
	}
	if len(seen) != 5 {
		t.Errorf("%d endpoints of 5", len(seen))
	}
	if i, _ := Choose(keyOf(1), math.Inf(1), 125, nil, same); i != -1 {
		t.Errorf("endpoint %d of none", i)
	}
}

// TestBoundedLoad: a session leaves an endpoint that has more than its share, and
// only then.
func TestBoundedLoad(t *testing.T) {
	for _, c := range []struct {
		name     string
		inFlight []int
		weights  []uint64
		maxLoad  uint32
		stays    bool
	}{
		{"no bound", []int{1000, 0, 0, 0}, []uint64{1, 1, 1, 1}, 0, true},
		{"nothing in flight", []int{0, 0, 0, 0}, []uint64{1, 1, 1, 1}, 125, true},
		{"the only request", []int{1, 0, 0, 0}, []uint64{1, 1, 1, 1}, 125, false},
		{"at its share", []int{10, 10, 10, 10}, []uint64{1, 1, 1, 1}, 125, true},
		{"just below the bound", []int{12, 10, 10, 8}, []uint64{1, 1, 1, 1}, 125, true},
		{"at the bound", []int{13, 10, 10, 7}, []uint64{1, 1, 1, 1}, 125, false},
		{"a larger bound", []int{13, 10, 10, 7}, []uint64{1, 1, 1, 1}, 200, true},
		{"more weight, more load", []int{20, 7, 7, 6}, []uint64{3, 1, 1, 1}, 125, true},
		{"alone", []int{1000}, []uint64{1}, 101, true},
	} {
		list := endpoints(len(c.inFlight))
		// A key that is the first endpoint's.
		key := uint64(0)
		for i := 0; ; i++ {
			for j := range list {
				list[j].Weight, list[j].InFlight = c.weights[j], 0
			}
			if at, _ := Choose(keyOf(i), math.Inf(1), 0, list, same); at == 0 {
				key = keyOf(i)
				break
			}
		}
		for j := range list {
			list[j].InFlight = c.inFlight[j]
		}
		at, _ := Choose(key, math.Inf(1), c.maxLoad, list, same)
		if at < 0 || (at == 0) != c.stays {
			t.Errorf("%s: endpoint %d", c.name, at)
		}
	}
}

func TestCookie(t *testing.T) {
	for _, c := range []struct {
		field, want string
		found       bool
	}{
		{"sid=a", "a", true},
		{"x=1; sid=a; y=2", "a", true},
		{"x=1;sid=a", "a", true},
		{"sid=a=b", "a=b", true},
		{`sid="a b"; x=1`, `"a b"`, true},
		{"sid=", "", true},
		{"xsid=a; SID=b; sid", "", false},
		{"", "", false},
		{";;=;", "", false},
		{"sid=a ; x=1", "a", true},
	} {
		got, found := Cookie([]byte(c.field), "sid")
		if string(got) != c.want || found != c.found {
			t.Errorf("%q: got %q, %v", c.field, got, found)
		}
	}
}

// TestKeys: they are the same in every process, for all proxies have to agree.
func TestKeys(t *testing.T) {
	if got := Key([]byte("alice")); got != 0xc5d1556d66774a5c {
		t.Errorf("key %#x", got)
	}
	if got := Hash(netip.MustParseAddrPort("10.0.0.1:80")); got != 0x2eceb24cfb463151 {
		t.Errorf("hash %#x", got)
	}
	if Key(nil) == 0 || Key([]byte("a")) == Key([]byte("b")) {
		t.Error("keys of nothing, or the same keys")
	}
	if Hash(netip.MustParseAddrPort("10.0.0.1:80")) == Hash(netip.MustParseAddrPort("10.0.0.1:81")) {
		t.Error("ports do not count")
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	list := endpoints(20)
	if n := testing.AllocsPerRun(100, func() { Choose(12345, math.Inf(1), 125, list, same) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
