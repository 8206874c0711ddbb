package route

import (
	"bytes"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Found is the rule that fits a request best.
type Found struct {
	Route *model.Route
	Rule  *model.Rule
	// Match is the match of the rule that counted; nil if it has none.
	Match *model.Match
	// RouteIndex and RuleIndex say where they stand in the list.
	RouteIndex, RuleIndex int
}

// specificity ranks matches; a greater one wins, field by field.
type specificity struct {
	// host is 0 without host match, 1 for suffixes, 2 for exact ones.
	host, hostLen int
	// For HTTP the lengths of the path; for gRPC of service and method.
	first, second int
	// exact is 1 for exact paths, which the Gateway API puts before prefixes
	// and expressions that match as much.
	exact   int
	headers int
	query   int
	method  int
}

func (s specificity) beats(o specificity) bool {
	for _, p := range [...][2]int{{s.host, o.host}, {s.hostLen, o.hostLen}, {s.first, o.first}, {s.second, o.second},
		{s.exact, o.exact}, {s.headers, o.headers}, {s.query, o.query}, {s.method, o.method}} {
		if p[0] != p[1] {
			return p[0] > p[1]
		}
	}
	return false
}

// Find returns the rule that fits the request best; the first in the list of
// those that fit equally well.
func Find(routes *model.Routes, head *exchange.RequestHead) (Found, bool) {
	r := request{head: head}
	r.path, r.query, _ = bytes.Cut(head.Path, []byte("?"))
	r.host = hostOnly(Authority(head))
	if routes.GRPC && !r.grpc() {
		return Found{}, false
	}
	var best Found
	var top specificity
	ok := false
	for i := range routes.List {
		route := &routes.List[i]
		host, hostLen, fits := matchHost(route.Hosts, r.host)
		if !fits {
			continue
		}
		for j := range route.Rules {
			rule := &route.Rules[j]
			s, m, fits := r.rule(rule, routes.GRPC)
			if !fits {
				continue
			}
			s.host, s.hostLen = host, hostLen
			if !ok || s.beats(top) {
				ok, top = true, s
				best = Found{Route: route, Rule: rule, Match: m, RouteIndex: i, RuleIndex: j}
			}
		}
	}
	return best, ok
}

// Authority is the authority a request is for: that of its URI, else its Host.
func Authority(head *exchange.RequestHead) []byte {
	if len(head.Authority) > 0 {
		return head.Authority
	}
	return head.Get("host")
}

// hostOnly cuts user information, port and trailing dot off.
func hostOnly(authority []byte) []byte {
	if i := bytes.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	host, _ := splitPort(authority)
	return bytes.TrimSuffix(host, []byte("."))
}

// splitPort splits "host:port"; port is empty if there is none. The brackets of
// IPv6 addresses stay with the host.
func splitPort(authority []byte) (host, port []byte) {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || bytes.IndexByte(authority[i:], ']') >= 0 {
		return authority, nil
	}
	return authority[:i], authority[i+1:]
}

// matchHost finds the best of the matches that fit host.
func matchHost(matches []model.HostMatch, host []byte) (kind, length int, ok bool) {
	if len(matches) == 0 {
		return 0, 0, true
	}
	for i := range matches {
		m := &matches[i]
		k := 0
		switch {
		case !m.Suffix && exchange.EqualFold(host, m.Name):
			k = 2
		case m.Suffix && len(host) > len(m.Name)+1 && host[len(host)-len(m.Name)-1] == '.' &&
			exchange.EqualFold(host[len(host)-len(m.Name):], m.Name):
			k = 1
		default:
			continue
		}
		if !ok || k > kind || k == kind && len(m.Name) > length {
			kind, length, ok = k, len(m.Name), true
		}
	}
	return kind, length, ok
}

// request is a request taken apart.
type request struct {
	head              *exchange.RequestHead
	host, path, query []byte
	service, rpc      []byte
}

// grpc splits the path into service and method and reports whether the request
// could be a gRPC call at all.
func (r *request) grpc() bool {
	rest, ok := bytes.CutPrefix(r.path, []byte("/"))
	if !ok || string(r.head.Method) != "POST" {
		return false
	}
	if r.service, rest, ok = bytes.Cut(rest, []byte("/")); !ok {
		return false
	}
	r.rpc, _, _ = bytes.Cut(rest, []byte("/"))
	return len(r.service) > 0 && len(r.rpc) > 0
}

// rule finds the best match of the rule.
func (r *request) rule(rule *model.Rule, grpc bool) (top specificity, best *model.Match, ok bool) {
	if len(rule.Matches) == 0 {
		if !grpc {
			top.first = 1
		}
		return top, nil, true
	}
	for i := range rule.Matches {
		m := &rule.Matches[i]
		var s specificity
		fits := false
		if grpc {
			s, fits = r.rpcMatch(m)
		} else {
			s, fits = r.httpMatch(m)
		}
		if fits && (!ok || s.beats(top)) {
			top, best, ok = s, m, true
		}
	}
	return top, best, ok
}

func (r *request) rpcMatch(m *model.Match) (s specificity, ok bool) {
	if m.Service != "" && m.Service != string(r.service) || m.RPC != "" && m.RPC != string(r.rpc) {
		return s, false
	}
	return specificity{first: len(m.Service), second: len(m.RPC), headers: len(m.Headers)}, r.headersFit(m.Headers)
}

func (r *request) httpMatch(m *model.Match) (s specificity, ok bool) {
	length, ok := r.pathFits(&m.Path)
	if !ok || m.Method != "" && m.Method != string(r.head.Method) || !r.headersFit(m.Headers) {
		return s, false
	}
	for i := range m.Query {
		if !r.queryFits(&m.Query[i]) {
			return s, false
		}
	}
	s = specificity{first: length, headers: len(m.Headers), query: len(m.Query)}
	if m.Path.Kind == model.PathExact {
		s.exact = 1
	}
	if m.Method != "" {
		s.method = 1
	}
	return s, true
}

func (r *request) pathFits(m *model.PathMatch) (length int, ok bool) {
	switch m.Kind {
	case model.PathExact:
		return len(m.Value), string(r.path) == m.Value
	case model.PathPrefix:
		p := strings.TrimSuffix(m.Value, "/")
		if p == "" {
			return 1, true
		}
		ok := len(r.path) >= len(p) && string(r.path[:len(p)]) == p && (len(r.path) == len(p) || r.path[len(p)] == '/')
		return len(p), ok
	case model.PathRegex:
		return len(r.path), m.Regex.Spans(r.path)
	}
	return 1, true
}

func (r *request) headersFit(matches []model.HeaderMatch) bool {
	for i := range matches {
		m := &matches[i]
		fits := false
		for j := range r.head.List {
			f := &r.head.List[j]
			if !f.Is(m.Name) {
				continue
			}
			if m.Regex != nil && m.Regex.Spans(f.Value) || m.Regex == nil && string(f.Value) == m.Exact {
				fits = true
				break
			}
		}
		// HTTP/2 has the authority instead of Host.
		if !fits && m.Name == "host" && len(r.head.Authority) > 0 && !r.head.Has("host") {
			a := r.head.Authority
			fits = m.Regex != nil && m.Regex.Spans(a) || m.Regex == nil && string(a) == m.Exact
		}
		if !fits {
			return false
		}
	}
	return true
}

func (r *request) queryFits(m *model.QueryMatch) bool {
	for rest := r.query; len(rest) > 0; {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, []byte("&"))
		name, value, _ := bytes.Cut(pair, []byte("="))
		if string(formDecode(name)) != m.Name {
			continue
		}
		v := formDecode(value)
		if m.Regex != nil && m.Regex.Spans(v) || m.Regex == nil && string(v) == m.Exact {
			return true
		}
	}
	return false
}

// formDecode decodes application/x-www-form-urlencoded; what is not valid
// stands for itself.
func formDecode(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '+':
			out = append(out, ' ')
		case c == '%' && i+2 < len(b) && unhex(b[i+1]) >= 0 && unhex(b[i+2]) >= 0:
			out = append(out, byte(unhex(b[i+1])<<4|unhex(b[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// FindSNI returns the TLS route whose SNI match is the most specific: exact
// before suffix, a longer suffix before a shorter, none last. Case does not
// matter. nil means that no route fits and the connection is to be refused.
func FindSNI(routes []model.TCPRoute, sni string) *model.TCPRoute {
	var best *model.TCPRoute
	var kind, length int
	host := []byte(strings.TrimSuffix(sni, "."))
	for i := range routes {
		k, l, ok := matchHost(routes[i].SNIs, host)
		if ok && (best == nil || k > kind || k == kind && l > length) {
			best, kind, length = &routes[i], k, l
		}
	}
	return best
}

// FindProfile returns the first route of a service profile that matches; nil
// is the default route.
func FindProfile(p *model.Profile, head *exchange.RequestHead) *model.ProfileRoute {
	path, _, _ := bytes.Cut(head.Path, []byte("?"))
	for i := range p.Routes {
		if p.Routes[i].Condition.Matches(head.Method, path) {
			return &p.Routes[i]
		}
	}
	return nil
}
