// Package serve answers proxies: it implements the Destination gRPC service on top of an index.
//
//	server := serve.New(serve.Options{Index: x, Config: config, ...})
//	destinationpb.RegisterDestinationServer(registrar, server)
//	...
//	server.Stop() // all streams end with OK
//	server.Wait() // their goroutines have ended
//
// Each stream has two goroutines: the handler's, which waits for a change or a reason to end, and while there is something to
// send, one that sends. So a client that does not read blocks nothing but its own sender, and can still be ended. Messages are
// made once for all streams that see the same. Source: proxy API chapter, sections 1.6, 3 and 4.
package serve
