// Package differential checks that the mesh is not to be seen: a script of
// random requests gives the application and its client the same results over
// every path there is, HTTP/1.1 and HTTP/2, meshed and not, detected and
// opaque, and without any proxy. It has tests only.
//
// The script follows from a seed, which is printed. To run one again:
//
//	go test ./test/differential -seed 123 -requests 1000
package differential
