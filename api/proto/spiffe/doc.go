// Package spiffepb is the part of the SPIFFE Workload API that a proxy outside Kubernetes
// needs to get its certificate from a local agent.
//
// The API has no protobuf package, so its names are global to a program: a program that
// links this package must not link another library's copy of the same API (such as
// go-spiffe's workloadapi), or it stops at start with a registration conflict.
//
// Source: proxy API chapter, section 2.13, and the SPIFFE Workload API standard.
package spiffepb
