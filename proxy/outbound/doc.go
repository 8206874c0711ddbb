// Package outbound is the path of traffic that the application sends: from a
// connection to the proxy's listener to the last byte of a server's answer
// (proxy chapter, sections 10 to 16).
//
//	p := outbound.New(outbound.Config{...})
//	go accept.Loop(listener, accept.Options{Handle: p.Accept, ...})
//	...
//	p.Close()
//
// Read Proxy.Accept first: it is the path of a connection, a step per line.
// Handler.Serve is that of a request. What is decided is decided by functions
// without sockets (decide.go, and packages detect, route, retry, balance); what
// they decide is acted upon here.
//
//	Accept ── discovery ──► protocol ─┬─► Handler.Serve ── route ── backend ── endpoint
//	                                  └─► opaque, TLS ───── route ── backend ── endpoint
//
// A target is everything that is known of one destination. One goroutine per
// target takes its updates and publishes a snapshot of routers; connections and
// requests read the snapshot once. Balancers and their endpoints belong to the
// target and survive updates that do not concern them.
//
// A Proxy is safe for concurrent use.
package outbound
