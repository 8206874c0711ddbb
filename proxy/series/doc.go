// Package series names what the proxy counts: every metric family of the proxy
// chapter, section 23, with its labels in their order, and the handles by which
// the paths count.
//
//	set := series.New(registry)
//	src := set.Transport(metric.Join(series.InboundLabel, series.SrcLabel, series.Target(dst), tls.Labels(), srv))
//	src.Open()
//	defer src.Closed(errno)
//
// Handles are made when a connection, route or endpoint is set up and are
// shared by its requests; using them takes no lock. All of it is safe for
// concurrent use.
package series
