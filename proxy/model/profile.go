package model

import "time"

// Profile is a service profile (proxy chapter, section 15.4; proxy API
// chapter, section 4).
type Profile struct {
	// Name is the service's fully qualified name without port, in lower case
	// and without trailing dot; empty for endpoint profiles.
	Name string
	// Opaque says that the port must not be sniffed.
	Opaque bool
	// Routes in order; the first that matches is used.
	Routes []ProfileRoute
	// Budget limits retries; nil turns them off.
	Budget *RetryBudget
	// Overrides replace the service as destination, none with weight 0.
	Overrides []Override
	// Endpoint is set if the target is a single endpoint.
	Endpoint *Endpoint
	// Parent and Ref are the service and the profile resource, zero if not
	// told.
	Parent, Ref Meta
}

// Override is one destination of a traffic split.
type Override struct {
	// Path is the "name:port" that endpoints are looked up by.
	Path   string
	Weight uint32
}

// ProfileRoute is a route of a profile.
type ProfileRoute struct {
	Condition RequestMatch
	// Labels are added to the route's metrics, prefixed with "rt_".
	Labels Labels
	// Classes in order; the first that matches decides.
	Classes   []ResponseClass
	Retryable bool
	// Timeout limits the time until the response head; zero for none.
	Timeout time.Duration
}

// MatchOp is the operator of a node of a match tree.
type MatchOp uint8

// The operators. Leaves of request trees are OpPath and OpMethod, of response
// trees OpStatus.
const (
	OpAll MatchOp = iota + 1
	OpAny
	OpNot
	OpPath
	OpMethod
	OpStatus
)

// RequestMatch is a node of a condition on requests. OpNot has one child.
type RequestMatch struct {
	Op       MatchOp
	Children []RequestMatch
	// Path has to span the request's path (OpPath).
	Path *Regex
	// Method is compared exactly (OpMethod).
	Method string
}

// Matches evaluates the tree for a request with the given path (without query)
// and method. An empty "all" holds, an empty "any" does not.
func (m *RequestMatch) Matches(method, path []byte) bool {
	switch m.Op {
	case OpAll:
		for i := range m.Children {
			if !m.Children[i].Matches(method, path) {
				return false
			}
		}
		return true
	case OpAny:
		for i := range m.Children {
			if m.Children[i].Matches(method, path) {
				return true
			}
		}
		return false
	case OpNot:
		return len(m.Children) == 1 && !m.Children[0].Matches(method, path)
	case OpPath:
		return m.Path.Spans(path)
	case OpMethod:
		return string(method) == m.Method
	}
	return false
}

// ResponseClass says whether responses that match are failures.
type ResponseClass struct {
	Condition ResponseMatch
	Failure   bool
}

// ResponseMatch is a node of a condition on responses. OpNot has one child.
type ResponseMatch struct {
	Op       MatchOp
	Children []ResponseMatch
	// Status is compared by OpStatus.
	Status StatusRange
}

// Matches evaluates the tree for a response with the given status.
func (m *ResponseMatch) Matches(status int) bool {
	switch m.Op {
	case OpAll:
		for i := range m.Children {
			if !m.Children[i].Matches(status) {
				return false
			}
		}
		return true
	case OpAny:
		for i := range m.Children {
			if m.Children[i].Matches(status) {
				return true
			}
		}
		return false
	case OpNot:
		return len(m.Children) == 1 && !m.Children[0].Matches(status)
	case OpStatus:
		return m.Status.Contains(status)
	}
	return false
}

// RetryBudget is the allowance for retries of a profile, or of a rule.
type RetryBudget struct {
	// Ratio is the number of retries allowed per request, 0 to 1000.
	Ratio float64
	// MinPerSecond retries are allowed in any case.
	MinPerSecond uint32
	// TTL is how long a request counts, 1 to 60 seconds.
	TTL time.Duration
}

// Valid reports whether the budget's numbers are in their ranges; retries are
// off otherwise.
func (b *RetryBudget) Valid() bool {
	return b != nil && b.Ratio >= 0 && b.Ratio <= 1000 && b.TTL >= time.Second && b.TTL <= time.Minute
}
