// Package backoff computes the delays of exponential backoffs (proxy chapter,
// section 13.5). It neither sleeps nor draws random numbers by itself: callers
// pass the draw, so that tables can test it.
package backoff

import (
	"math/rand/v2"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Delay is the nth delay, counted from 0: min(max, min·2^n) and on top of it
// the share draw (0 ≤ draw < 1) of jitter times that.
func Delay(b model.Backoff, n int, draw float64) time.Duration {
	d := b.Max
	// Doubling more often than this overflows; base is at least 1ns.
	if n < 62 {
		if shifted := b.Min << n; shifted>>n == b.Min && shifted > 0 {
			d = min(d, shifted)
		}
	}
	if b.Min <= 0 {
		d = 0
	}
	return d + time.Duration(draw*b.Jitter*float64(d))
}

// Series hands out one delay after the other. The zero value with B set is
// ready. It is not safe for concurrent use.
type Series struct {
	// B says how long the delays are.
	B model.Backoff
	n int
}

// Next returns the next delay, with a random jitter.
func (s *Series) Next() time.Duration {
	d := Delay(s.B, s.n, rand.Float64())
	s.n++
	return d
}

// Reset makes the series start over, after a success.
func (s *Series) Reset() { s.n = 0 }
