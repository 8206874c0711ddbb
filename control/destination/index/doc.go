// Package index keeps what the destination controller knows of one cluster, and tells the streams that are concerned when
// an answer changes.
//
//	x := index.New(index.Options{Config: config, ...})
//	watches := x.Watches(clients, true)          // feed it; see package kube
//	go x.Run(ctx)                                // the one writer
//	sub, err := x.Endpoints(ctx, query)          // a stream's view
//	for range sub.Changed() { snapshot := sub.Latest() ... }
//
// All state belongs to the goroutine of Run. Watches and streams send it functions to call; between two batches of them it
// brings the topics up to date that read something that changed. A topic is one question (the endpoints of a port, the
// profile of an address); its answer is computed by the pure functions of package core, which read objects through a
// reader that notes what was read. So there is no second place that knows which events concern which answers.
//
// Answers are immutable and published to subscriptions, which keep only the latest: a stream that is slow skips what was
// in between and holds up nobody.
//
//	watch ──► tables ──touch──► answers ──► topic ──► group ──► subscription ──► stream
//	                             (derive)    refresh    (clients that see the same)
package index
