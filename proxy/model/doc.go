// Package model has the types in which the proxy thinks about policy and
// endpoints: what the control plane decided, freed of its wire format.
//
//	api/proto ─► discovery (translates, validates) ─► model ◄─ route, authz, balance, inbound, outbound …
//
// It imports only the standard library, does no I/O and reads no clock, so
// that everything which decides can be tested with literals.
//
// Values are immutable by convention: discovery builds a policy, publishes a
// pointer to it, and nobody writes to it afterwards. All methods are reads and
// may be called from any goroutine. A nil slice and an empty one mean the same.
//
// Durations that are zero mean "not set" unless a field says otherwise.
package model
