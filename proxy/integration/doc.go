// Package integration runs whole proxies in one process: a client, an outbound
// proxy, an inbound proxy and a server, over real sockets on the loopback
// interface, with the control plane's knowledge given as values or by a fake
// controller. It has tests only.
//
// The addresses of the story (10.0.0.1 and so on) exist only in the dialer and
// the original destinations that the proxies are given.
package integration
