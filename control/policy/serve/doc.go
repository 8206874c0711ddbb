// Package serve answers proxies: it implements the InboundServerPolicies and OutboundPolicies gRPC services on top of an
// index.
//
//	server := serve.New(serve.Options{Index: x, Config: &config, Logger: logger})
//	server.Register(registrar)
//	...
//	server.Stop() // all streams end with OK
//	server.Wait() // their goroutines have ended
//
// Each stream has two goroutines: the handler's, which waits for a change or a reason to end, and while there is something to
// send, one that sends. So a client that does not read blocks nothing but its own sender, and can still be ended. Messages are made once for all streams that ask the
// same. Nothing is decided here: encode.go turns what package core compiled into protocol buffers, field by field. Source:
// proxy API chapter, sections 1.6, 5.2, 6.1 and 6.2.
package serve
