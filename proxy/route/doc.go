// Package route finds the route and rule of a request among those of a policy,
// and says what its filters do (proxy chapter, section 12; proxy API chapter,
// section 11).
//
//	found, ok := route.Find(&policy.Routes, head)       // 404 if not ok
//	verdict := route.Apply(found.Rule.Filters, found, head, nil)
//
// All functions are pure but for changing the headers they are given, and may
// be called from any goroutine. Finding allocates nothing unless a
// query parameter has to be decoded or a regular expression matches.
package route
