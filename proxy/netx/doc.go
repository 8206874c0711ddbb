// Package netx is the proxy's I/O floor: sockets with the options the mesh
// needs, original destinations, bytes read ahead and put back, live byte
// counters. Everything above it takes net.Conn, net.Listener and Dialer, so
// tests put pipes and faulty connections (package faultconn) in their place.
//
// Wrappers around connections (Prefix, Counting, TLS) hide what the kernel can
// do for a plain socket. They therefore tell what they wrap by NetConn, and
// pass on CloseWrite and ReadLazy. A connection that has nothing to say for long
// waits in a Lot, without a goroutine.
//
// Connections may be read by one goroutine and written by another at a time;
// Close, CloseWrite and deadlines may be used by any.
package netx
