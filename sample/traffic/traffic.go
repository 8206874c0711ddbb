// Package traffic is the shop's load generator. It sends requests at a fixed
// rate whatever the answers take (an open loop, so that a stall shows as
// latency and not as silence) and counts what came back.
//
// Run starts everything and waits for it; Stats may be called from any
// goroutine meanwhile.
package traffic

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what to send.
type Options struct {
	// Target is the front's base URL.
	Target string
	// Rate is requests a second.
	Rate float64
	// Timeout bounds one request.
	Timeout time.Duration
	// MaxInFlight bounds requests outstanding; beyond it a request is
	// counted as failed ("too many in flight") instead of being sent.
	MaxInFlight int
}

func (o *Options) validate() error {
	switch {
	case o.Target == "":
		return fmt.Errorf("traffic: no target")
	case o.Rate <= 0:
		return fmt.Errorf("traffic: rate %v is not positive", o.Rate)
	case o.MaxInFlight <= 0:
		return fmt.Errorf("traffic: max in flight %d is not positive", o.MaxInFlight)
	}
	return nil
}

// Stats is what was counted since the start or the last reset.
type Stats struct {
	Sent   uint64 `json:"sent"`
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
	// Errors counts failures by their words: a status or a transport error.
	Errors map[string]uint64 `json:"errors,omitempty"`
	// Servers counts answers by the pod of the front that gave them.
	Servers map[string]uint64 `json:"servers,omitempty"`
	// MaxMillis is the longest answer, P99Millis that percentile of the
	// last answers (up to 4,096 of them).
	MaxMillis float64 `json:"max_ms"`
	P99Millis float64 `json:"p99_ms"`
}

// Generator sends and counts. Create it with New.
type Generator struct {
	opts   Options
	client *http.Client

	mu    sync.Mutex
	stats Stats     // guarded by mu
	last  []float64 // latencies in ms, a ring; guarded by mu
	next  int       // guarded by mu
}

// New checks the options and returns a generator that has not started.
func New(opts Options) (*Generator, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = opts.MaxInFlight
	g := &Generator{opts: opts, client: &http.Client{Transport: t, Timeout: opts.Timeout}}
	g.Reset()
	return g, nil
}

// Run waits until the shop takes an order, then sends until ctx ends and waits
// for the answers outstanding. What fails before is the shop opening, which
// nobody wants to see among the counts.
func (g *Generator) Run(ctx context.Context) {
	defer g.client.CloseIdleConnections()
	if !g.open(ctx) {
		return
	}
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	slots := make(chan struct{}, g.opts.MaxInFlight)
	tick := time.NewTicker(time.Duration(float64(time.Second) / g.opts.Rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			g.count("", 0, "too many in flight")
			continue
		}
		inFlight.Go(func() {
			g.send(n)
			<-slots
		})
	}
}

// open asks for an order every so often until one is taken; it reports false
// when ctx ends first.
func (g *Generator) open(ctx context.Context) bool {
	const patience, pause = 3 * time.Second, 500 * time.Millisecond
	for {
		if g.try(ctx, patience) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

func (g *Generator) try(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := g.client.Do(g.order().WithContext(ctx))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode < 400
}

// order is a request that needs every part of the shop.
func (g *Generator) order() *http.Request {
	req, _ := http.NewRequest(http.MethodPost, g.opts.Target+"/orders", strings.NewReader(`{"product":"rope","quantity":2}`))
	req.Header.Set("Content-Type", "application/json")
	return req
}

// mix is the order in which requests of different kinds follow each other.
var mix = []string{"products", "products", "order", "products", "prices", "products", "home", "order"}

func (g *Generator) send(n int) {
	var req *http.Request
	switch kind := mix[n%len(mix)]; kind {
	case "order":
		req = g.order()
	case "home":
		req, _ = http.NewRequest(http.MethodGet, g.opts.Target+"/", nil)
	default:
		req, _ = http.NewRequest(http.MethodGet, g.opts.Target+"/"+kind, nil)
	}
	start := time.Now()
	resp, err := g.client.Do(req)
	if err != nil {
		g.count("", time.Since(start), transportWords(err))
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	took := time.Since(start)
	switch {
	case err != nil:
		g.count("", took, "body: "+transportWords(err))
	case resp.StatusCode >= 400:
		words := resp.Status
		if e := resp.Header.Get("L5d-Proxy-Error"); e != "" {
			words += ": " + e
		}
		g.count(resp.Header.Get("Shop-Pod"), took, words)
	default:
		g.count(resp.Header.Get("Shop-Pod"), took, "")
	}
}

// transportWords drops what differs from request to request, so that equal
// failures count together.
func transportWords(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, "\": "); i >= 0 {
		s = s[i+3:]
	}
	return s
}

func (g *Generator) count(pod string, took time.Duration, failure string) {
	const ring = 4096
	ms := float64(took) / float64(time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Sent++
	if failure == "" {
		g.stats.OK++
	} else {
		g.stats.Failed++
		g.stats.Errors[failure]++
	}
	if pod != "" {
		g.stats.Servers[pod]++
	}
	g.stats.MaxMillis = max(g.stats.MaxMillis, ms)
	if len(g.last) < ring {
		g.last = append(g.last, ms)
	} else {
		g.last[g.next] = ms
		g.next = (g.next + 1) % ring
	}
}

// Stats returns a copy of the counts.
func (g *Generator) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Errors = make(map[string]uint64, len(g.stats.Errors))
	for k, v := range g.stats.Errors {
		s.Errors[k] = v
	}
	s.Servers = make(map[string]uint64, len(g.stats.Servers))
	for k, v := range g.stats.Servers {
		s.Servers[k] = v
	}
	if len(g.last) > 0 {
		sorted := slices.Clone(g.last)
		slices.Sort(sorted)
		s.P99Millis = sorted[len(sorted)*99/100]
	}
	return s
}

// Reset starts counting anew.
func (g *Generator) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats = Stats{Errors: map[string]uint64{}, Servers: map[string]uint64{}}
	g.last, g.next = g.last[:0], 0
}
