// Package discovery asks the control plane where traffic goes and what may
// pass: the clients of the destination and policy controllers. Together with
// its subpackages it alone knows the wire API; what it publishes are
// snapshots of package model behind the interfaces of package lookup.
//
//	                  ┌ GetProfile ┐
//	Outbound.Addr ──► │            ├─► combine ─► Targets
//	                  └ Watch      ┘
//	Resolver.Endpoints ─► Get ─► Endpoints      (one per balancer)
//	Inbound.Server ─► WatchPort ─► Servers      (one per port)
//
// Every stream is one goroutine, started by a cache when somebody first asks
// and ended when nobody did for a while. Streams that end are made again as
// the proxy API chapter says in section 1.4; what was known stays valid
// meanwhile. Readers never wait for a stream but for its first answer.
package discovery
