// Package h1 is the proxy's HTTP/1 codec: a server and a client of package
// exchange (RFC 9112; proxy chapter, section 7.2).
//
//	err := h1.Serve(conn, handler, &h1.ServerOptions{})     // a client's connection
//
//	c := h1.NewConn(conn, h1.ClientOptions{})               // a server's connection
//	resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
//
// Heads are parsed in place in the connection's read buffer and written
// without being encoded anew; bodies are slices of read buffers. An idle
// connection holds no buffer at all.
//
// The parser is strict where leniency lets requests be smuggled: it refuses
// bare CR and LF, folded lines, white space before a colon, two different
// lengths, and Transfer-Encoding beside Content-Length. Responses may end
// lines with a bare LF, since old servers do.
//
// A server connection runs on the goroutine that calls Serve. A client
// connection does one exchange at a time and starts a goroutine only for a
// request body that is long or not there yet.
package h1
