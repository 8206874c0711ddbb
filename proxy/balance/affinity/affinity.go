// Package affinity chooses the endpoint of a session: the same for all requests
// with one key, on every proxy that has the same endpoints, and another one for as
// few keys as possible when endpoints come or go. It is rendezvous hashing: each
// endpoint scores with the key, and the highest score has it (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998), by weight
// (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005), and if
// that is wanted with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
// "Consistent hashing with bounded loads", 2018).
//
//	key := affinity.Key(value)
//	below := math.Inf(1)
//	for {
//		i, score := affinity.Choose(key, below, maxLoad, members, of)
//		if i < 0 { ... nobody; choose as without a session ... }
//		if members[i] takes it { break }
//		below = score
//	}
//
// The functions are pure and may be called from any goroutine.
package affinity

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
)

// Candidate is an endpoint as a session sees it.
type Candidate struct {
	// Hash is that of its address; see Hash.
	Hash uint64
	// Weight is how much of all it is to have; at least 1.
	Weight uint64
	// InFlight is how many requests it has.
	InFlight int
}

// FNV-1a, of which the high bits of short texts are poor: mix sees to that. The
// result is the same everywhere, so that proxies agree.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(b []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// mix spreads every bit over all others: the end of splitmix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// Key is the key of what is called value. It is never 0, which stands for no
// session.
func Key(value []byte) uint64 { return max(mix(fnv(value)), 1) }

// Hash is that of an endpoint's address.
func Hash(addr netip.AddrPort) uint64 {
	ip := addr.Addr().As16()
	var b [18]byte
	copy(b[:], ip[:])
	binary.BigEndian.PutUint16(b[16:], addr.Port())
	return mix(fnv(b[:]))
}

// score is what a candidate is worth to a key: above 0, and the higher the better.
func score(key uint64, c Candidate) float64 {
	// Between 0 and 1, and neither.
	u := (float64(mix(key^c.Hash)>>11) + 0.5) / (1 << 53)
	return -float64(c.Weight) / math.Log(u)
}

// Choose returns which member has the key, and its score: the one that scores
// highest of those that score less than below. With maxLoad, those are left out
// that have that many percent of their share of all requests in flight, the one to
// come included. at is -1 if none is left.
func Choose[M any](key uint64, below float64, maxLoad uint32, members []M, of func(M) Candidate) (at int, best float64) {
	var inFlight, weights float64
	if maxLoad > 0 {
		for _, m := range members {
			c := of(m)
			inFlight += float64(c.InFlight)
			weights += float64(c.Weight)
		}
	}
	at = -1
	for i, m := range members {
		c := of(m)
		s := score(key, c)
		if s >= below || at >= 0 && s <= best {
			continue
		}
		if maxLoad > 0 {
			share := (inFlight + 1) * float64(c.Weight) / weights
			if float64(c.InFlight) >= math.Ceil(share*float64(maxLoad)/100) {
				continue
			}
		}
		at, best = i, s
	}
	return at, best
}

// Cookie finds the value of the cookie called name in a Cookie field (RFC 6265,
// section 4.2.1).
func Cookie(field []byte, name string) ([]byte, bool) {
	for len(field) > 0 {
		var pair []byte
		pair, field, _ = bytes.Cut(field, []byte(";"))
		key, value, ok := bytes.Cut(bytes.TrimLeft(pair, " \t"), []byte("="))
		if ok && string(key) == name {
			return bytes.TrimRight(value, " \t"), true
		}
	}
	return nil, false
}
