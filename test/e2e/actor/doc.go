// Package actor is the program that the end-to-end tests of policies play
// their scenes with. Every pod of a scene runs it, be it a client or a server:
//
//   - on [HTTPPort] and [GRPCPort] it serves HTTP/1, HTTP/2 without TLS, gRPC
//     (the sample's Catalog and Checkout) and WebSockets at /websocket,
//   - on [TCPPort] it echoes lines, on [TLSPort] lines inside TLS,
//   - on [ControlPort] it takes orders from the test: to call somebody (a
//     [Call], answered with [Answers]), to hold a conversation over several
//     orders, or to misbehave as a server ([Mood]).
//
// Whatever it answers carries its name, so that a caller sees who was reached.
//
// [Serve] runs all of it until its context ends and waits for what it started.
// A [Stage] that sends orders may be used from any goroutine.
package actor

import "time"

// The ports of every actor.
const (
	HTTPPort    = 8080
	GRPCPort    = 8090
	TCPPort     = 7070
	TLSPort     = 8443
	ControlPort = 4080
)

// The protocols of a Call.
const (
	HTTP      = "http"
	HTTP2     = "h2"
	GRPC      = "grpc"   // a unary call
	Stream    = "stream" // a bidirectional gRPC stream
	TCP       = "tcp"
	TLS       = "tls"
	WebSocket = "websocket"
)

// Call is what a client is told to do.
type Call struct {
	Protocol string
	// Target is host and port.
	Target string
	// Method and Path are of HTTP; the path of gRPC is the method's full
	// name, that of shop.v1.Catalog/List if empty.
	Method string
	Path   string
	// Header is sent with requests, as metadata with gRPC. "Host" replaces
	// the authority.
	Header map[string]string
	// Body is how many bytes POST and PUT requests send.
	Body int64
	// ServerName is of TLS.
	ServerName string
	// Proxied is the address of a client that the call is made for, as by a
	// load balancer: its connections begin with a header of the PROXY
	// protocol, of version 2 if there is "v2:" in front.
	Proxied string
	// Numbered is the name of a header field of HTTP that has the request's
	// number among several, counted to NumberedTo and from 1 again; on and on
	// if that is 0.
	Numbered   string
	NumberedTo int
	// Times is how often to call, once if 0: requests follow each other on
	// one connection, other protocols take a connection each.
	Times int
	// Limit bounds each.
	Limit time.Duration
	// Fail and Delay ask the server to answer the first of the attempts that
	// it sees of one call with a status (or the name of a gRPC code), or
	// late; FailTimes and DelayTimes say how many attempts, all if 0.
	Fail       string
	FailTimes  int
	Delay      time.Duration
	DelayTimes int
}

// Result is how a call ended.
type Result struct {
	// Outcome is an HTTP status, the name of a gRPC code, Open for a
	// connection that carried a line each way, or Closed, Timeout,
	// Reconnected.
	Outcome string
	// By is the name of the actor that answered.
	By string `json:",omitempty"`
	// Header is of the answer, names in lower case; with gRPC the metadata.
	// Left out when many calls were asked for.
	Header map[string]string `json:",omitempty"`
	// Seen are the header fields that the server got, names in lower case,
	// and its ":path".
	Seen map[string]string `json:",omitempty"`
	// Detail says more of a failure.
	Detail string        `json:",omitempty"`
	Took   time.Duration `json:",omitempty"`
}

// Outcomes that are neither statuses nor codes.
const (
	Open        = "open"
	Closed      = "closed"
	Timeout     = "timeout"
	Reconnected = "reconnected" // a held HTTP connection was lost, and made anew
)

// Answers are the results of a call, in order.
type Answers struct{ Results []Result }

// Mood is how a server answers requests until told otherwise: with a status
// (the name of a code for gRPC) instead of its answer.
type Mood struct {
	HTTP int
	GRPC string
	// RetryAfter is sent with the status, if not empty.
	RetryAfter string
}
