// Package explain says why a client may or may not reach a port or a route, and which resources decide that.
//
//	explanation, err := explain.Inbound(&config, view, workload, port, client, request)
//	explanation, err := explain.Outbound(&config, view, service, port, namespace, request)
//	explain.New(x, &config).Register(registrar) // the API, from an index
//
// The verdict is that of the policy which package core compiles for the proxy, judged as the proxy judges it (proxy chapter,
// sections 9.3 and 12); a test in test/policy holds the two together. The reasons come from the resources that the policy was
// compiled from, which are found through the same Lookup: what was compiled, what was left out, and what nearly fits. What a
// question leaves open (where the client is, what it asks for) is open in the answer too, instead of guessed.
//
// The functions are pure and may be called from any goroutine. Source: proxy API chapter, section 5.
package explain
