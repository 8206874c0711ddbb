// Package h2 is the proxy's HTTP/2 codec: a server and a client of package
// exchange (RFC 9113; proxy chapter, sections 2.3 and 7.7).
//
//	s := h2.NewServer(conn, handler, info, h2.Options{})
//	err := s.Serve()
//
//	c, err := h2.NewClientConn(conn, h2.Options{})
//	resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
//
// # Goroutines
//
// A connection has one reading and one writing goroutine. Whoever has something
// to send encodes it, under the connection's lock, into one buffer; the writer
// takes all that is there and writes it at once, so that under load the frames
// of many streams share a TLS record and a system call. It never waits for more.
//
// A server stream runs its handler on a goroutine taken from the connection's
// idle ones. The reader starts streams and wakes waiting ones only after it has
// gone through all that it had read, so that a small body is there with its
// head. A client stream runs on the goroutine that calls RoundTrip; another is
// started only for a request body that is long or not there yet.
//
// # Back-pressure
//
// Received data waits in its stream, up to the window. The window is given back
// when the consumer asks for the next frame. Senders wait for their stream's
// window, the connection's, and room in the buffer; those who wait for the
// connection take turns of one frame.
package h2
