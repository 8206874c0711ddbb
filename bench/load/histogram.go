package load

import (
	"math/bits"
	"time"
)

// Histogram counts latencies in buckets whose width is at most 1/64 of their
// value, so that a percentile is right to 1.6 %. The zero value is empty. It is
// not for concurrent use.
type Histogram struct {
	counts [2048]uint64
	total  uint64
}

// sub is how many buckets each power of two is divided into, as a power of two.
const sub = 6

// Record counts one latency.
func (h *Histogram) Record(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

func bucket(v uint64) int {
	if v < 1<<sub {
		return int(v)
	}
	shift := bits.Len64(v) - sub - 1
	return min(shift<<sub+int(v>>shift), 2047)
}

// upper is the highest value of a bucket.
func upper(i int) uint64 {
	if i < 1<<(sub+1) {
		return uint64(i)
	}
	shift := i>>sub - 1
	return uint64(i&(1<<sub-1)+1<<sub+1)<<shift - 1
}

// Quantile is the latency that the fraction q of all does not exceed, 0 if
// nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank {
			return time.Duration(upper(i))
		}
	}
	// Only q = 1 gets here: the highest that there is.
	for i := len(h.counts) - 1; i >= 0; i-- {
		if h.counts[i] > 0 {
			return time.Duration(upper(i))
		}
	}
	return 0
}

// Total is how many latencies were recorded.
func (h *Histogram) Total() uint64 { return h.total }
