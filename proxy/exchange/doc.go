// Package exchange is the one model of an HTTP exchange that the proxy has:
// a request head, a response head and two bodies. The codecs (h1, h2) each
// implement a server and a client of it; routing, authorization, retries,
// metrics and tap see heads and frames, never sockets.
//
//	client socket ─► h1/h2 server ─► Handler ─► Client (h1/h2 connection) ─► server socket
//	                    │   Exchange{Request, Body}     │ Response{Head, Body}
//	                    └──────────── Respond ◄─────────┘
//
// # Goroutines
//
// A server codec calls Handler.Serve on a goroutine that belongs to the
// exchange: for HTTP/1 the connection's own, for HTTP/2 one per stream. The
// handler does the whole exchange on it, inline: RoundTrip, then Respond. The
// only method another goroutine may call is Exchange.Cancel.
//
// # Memory
//
// Nothing here outlives its exchange. Heads are slices of a buffer of the
// codec's; an Exchange and all it refers to are valid until Serve returns; a
// Response and all it refers to until Response.Close returns; the data of a
// Frame until the next call to Next or Close of the same Body. Whoever keeps
// bytes longer copies them.
package exchange
