// Package injector answers the admission reviews of the proxy injector's webhook: it gives pods their proxy, and Services
// the annotation of their opaque ports.
//
//	watches := injector.NewWatches(clients, logger)
//	go watches.Run(ctx)
//	err := watches.WaitSynced(ctx)
//	handler := injector.New(injector.Options{Lookup: watches, Render: render, ...})
//	server := webhook.New(webhook.Options{Admit: handler.Admit, ...})
//
// What is decided, and how a pod changes, is in internal/inject; here is what that needs from outside: the control plane's
// values and trust anchors (config.go), namespaces and owners (lookup.go), and what it tells the outside: events and
// metrics (metrics.go). The chart with the containers is passed in as a function
// (docs/decisions/injector-renders-the-chart.md).
//
// A Handler may be called from any goroutine; it keeps no state but counters and the last configuration that it read.
//
// Source: control plane chapter, section 4.
package injector
