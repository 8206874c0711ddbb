// Package core holds what the destination controller knows and decides, without Kubernetes clients, protobuf or I/O.
//
//	object.go     the parts of Kubernetes objects that matter to discovery
//	target.go     what a client asks for, and who it is
//	endpoint.go   from an object to an endpoint: address, identity, hints, labels
//	address.go    from a Service and its slices to all addresses behind a port
//	snapshot.go   what one group of clients sees of them, and the difference between two views
//	profile.go    from a Service and a ServiceProfile, or an address, to a profile
//
// The index package fills the objects and asks these functions, on one goroutine; the serve package turns their results
// into messages. Values are never changed once they have been passed on, so any goroutine may read them.
//
// Sources: proxy API chapter, sections 1.3, 3 and 4.
package core
