// Package index keeps what the policy controller knows of the cluster, and tells the streams that are concerned when an
// answer changes.
//
//	x := index.New(index.Options{Config: config, ...})
//	watches, missing, err := x.Watches(clients) // feed it; see package kube
//	go x.Run(ctx)                               // the one writer
//	go x.WatchLater(ctx, clients, missing)      // kinds that are installed later
//	sub, err := x.Inbound(ctx, workload, 8080)
//	for range sub.Changed() { answer := sub.Latest() ... }
//	err := x.View(ctx, func(v index.View) { ... }) // a look at what is known, as for explanations
//
// All state belongs to the goroutine of Run. Watches and streams send it functions to call; between two batches of them it
// brings the topics up to date that read something that changed. A topic is one question (a port of a workload, a
// destination of a namespace's clients); its answer is compiled by the pure functions of package core, which read objects
// through a reader that notes what was read. So there is no second place that knows which events concern which answers.
//
// Answers are immutable, made once for all streams that ask the same, and published only if they differ from the last.
// Subscriptions keep only the latest, so that a slow stream skips what was in between and holds up nobody.
//
//	watch ──► resource.Reader ──► tables ──touch──► answers ──► topic ──► subscription ──► stream
//
// An object that cannot be read is logged and left out; if an older version of it was readable, that stays in force.
package index
