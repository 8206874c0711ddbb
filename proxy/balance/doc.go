// Package balance sends requests, or connections, to the endpoints of one
// backend: power of two choices by peak EWMA (proxy chapter, section 13.3),
// with a circuit breaker per endpoint (section 14), a queue in front, and
// fail-fast when nothing is ready for too long (section 13.2).
//
//	lookup.Endpoints ─► owner goroutine ─► snapshot of ready endpoints (atomic)
//	                      ▲   ▲   ▲                 │
//	   notify: readiness ─┘   │   └─ breaker timers ▼
//	                          └────── Pick ◄── request: two choices, admit, go
//	                                   │ nothing ready
//	                                   ▼
//	                                 queue ── fail-fast timer ─► ErrFailfast
//
// The balancer knows nothing of HTTP or TCP: an endpoint is a Service, made by
// a function that is passed in; both stacks share it, and a forward backend is
// a balancer over one constant endpoint.
//
// One goroutine owns the set of endpoints. Pick reads an immutable snapshot and
// takes no lock other than that of an endpoint's estimate as long as something
// is ready.
package balance
