// Package soak puts whole proxies under load together with everything that goes
// wrong in networks: clients that break off, stall or read slowly, streams that
// are cancelled, applications that reset, truncate, answer nonsense or nothing.
// Well-behaved clients must not notice, and afterwards nothing may be left:
// no goroutines, no descriptors, no buffers, no memory. It has tests only.
//
//	go test ./test/soak                # a few seconds
//	go test ./test/soak -soak 5m       # make soak
package soak
