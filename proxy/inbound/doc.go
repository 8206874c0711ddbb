// Package inbound is the path of traffic that arrives at the pod: from a
// connection to the proxy's listener to the last byte of the application's
// answer (proxy chapter, sections 4, 5, 8 and 9).
//
//	p := inbound.New(inbound.Config{...})
//	go accept.Loop(listener, accept.Options{Handle: p.Accept, ...})
//	...
//	p.Close()
//
// Read Proxy.Accept first: it is the path of a connection, a step per line.
// Proxy.Serve is that of a request. What is decided is decided by functions
// without sockets (decide.go, and packages detect, route, authz, ratelimit);
// what they decide is acted upon here.
//
//	Accept ── target, policy of its port ──► TLS ──► protocol ─┬─► forward (tcp.go)
//	   └─ direct (direct.go) ── transport header ──────────────┼─► Serve  (http.go)
//	                                                           └─► gateway
//
// A Proxy is safe for concurrent use. Each connection has a goroutine, each
// HTTP/2 stream another; a port that is in use has one that watches its policy.
package inbound
