// Package core is what the policy controller decides, as pure functions: resources in, compiled policy out.
//
//	server := config.Inbound(lookup, workload, port)          // what the proxy of a workload lets in at a port
//	target, ok := config.Resolve(lookup, addr, namespace)     // what an address means to a client
//	policy := config.Outbound(lookup, target, namespace)      // where the proxy of a client sends what it is asked to send
//
// The inputs are the objects of source.go: what is kept of the Kubernetes objects, already checked, made by package
// resource. The functions find them through a Lookup, so that a caller can note what an answer was made from. The outputs
// are those of inbound.go and outbound.go: package serve turns them into protocol buffers without deciding anything.
//
// Nothing here keeps state, does I/O or logs; what an operator should know about a decision is in the answer's Notes. Values
// may be shared by goroutines as long as none changes them. Source: proxy API chapter, sections 5, 6 and 11; control plane
// chapter, section 7.
package core
