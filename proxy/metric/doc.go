// Package metric counts what the proxy does and writes it as text (proxy
// chapter, section 23).
//
//	reg := metric.NewRegistry(metric.Options{Retain: 10 * time.Minute})
//	opened := reg.Legacy("tcp_open_total", "Total count of opened connections.", metric.Expires)
//	c := opened.Counter(metric.Labels("direction", "inbound", "peer", "src"))
//	defer c.Release()
//	c.Add(1)
//
// A label set is rendered once, when a route, endpoint or connection is set
// up; what a request does is an atomic addition on the handle that was made
// then. A series of an expiring family vanishes when nobody holds a handle of
// it and it has not changed for the time that the registry retains it.
//
// Everything is safe for concurrent use. Handles are made under a lock of
// their family; adding and observing take no lock.
package metric
