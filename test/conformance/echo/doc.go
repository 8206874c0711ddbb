// Command echo is the workload that the Gateway API conformance suite deploys
// into a mesh: a server that says what reached it, and a client that the suite
// runs inside the server's pods.
//
// The suite's manifests ask for an image that cannot be pulled without a
// network, so the runner builds one of the same name from here. What the two
// halves print, and the flags they take, are what the suite's package
// utils/echo writes and parses; more than that is not imitated.
//
// Called as client it sends requests and prints, for each, the answer:
//
//	client http://echo/path --method=GET -H name:value --count=3
//	client grpc://echo:7070
//
// Under any other name it serves:
//
//	server --port=8080 --port=8443 --tls=8443 --grpc=7070 --tcp=9090
package main
