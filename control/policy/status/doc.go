// Package status says in the status of routes, Servers and policies of all kinds whether they are in force, and writes it.
//
// What a status should be is decided by pure functions (object.go, policy.go, route.go): an Object knows what its status is made from
// and asks a Lookup for the rest. The index compares that with what is there, as part of following the cluster. The Writer
// writes the difference while it holds a lease, so that of several controllers one does:
//
//	writer := status.NewWriter(status.Options{Source: x, ...})
//	writer.Run(ctx) // until ctx is done: elects, writes, gives the lease back
//
// There is no queue: what is outdated is known at any time, so that nothing is lost while nobody holds the lease, and only
// objects that an event concerns are looked at again. Source: control plane chapter, sections 8 and 13.
package status
