package explain

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Request is what a client would ask for.
type Request struct {
	Method string
	// Path has the query, if there is one.
	Path    string
	Host    string
	Headers []core.Header
}

// String returns the request line.
func (r *Request) String() string {
	if r.Host == "" {
		return r.Method + " " + r.Path
	}
	return r.Method + " " + r.Host + r.Path
}

// complete fills in what the question leaves out.
func (r Request) complete(grpc bool) *Request {
	if r.Path == "" {
		r.Path = "/"
	}
	if !strings.HasPrefix(r.Path, "/") && r.Path != "*" {
		r.Path = "/" + r.Path
	}
	if r.Method == "" {
		r.Method = http.MethodGet
		if grpc {
			r.Method = http.MethodPost
		}
	}
	return &r
}

func (r *Request) header(name string) (values []string) {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	return values
}

// host is the name that hosts of routes are compared with.
func (r *Request) host() string {
	authority := r.Host
	if values := r.header("host"); authority == "" && len(values) > 0 {
		authority = values[0]
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = authority[at+1:]
	}
	if colon := strings.LastIndexByte(authority, ':'); colon >= 0 && !strings.Contains(authority[colon:], "]") {
		authority = authority[:colon]
	}
	return strings.TrimSuffix(authority, ".")
}

// rpc splits the path of a gRPC call. It returns false for what is none.
func (r *Request) rpc() (service, method string, ok bool) {
	path, _, _ := strings.Cut(r.Path, "?")
	rest, ok := strings.CutPrefix(path, "/")
	if !ok || r.Method != http.MethodPost {
		return "", "", false
	}
	service, rest, _ = strings.Cut(rest, "/")
	method, _, _ = strings.Cut(rest, "/")
	return service, method, service != "" && method != ""
}

// rank says how specific a match is; greater numbers go first, from left to right. Source: proxy API chapter, section 11.
type rank [8]int

func (r rank) beats(other rank) bool {
	for i := range r {
		if r[i] != other[i] {
			return r[i] > other[i]
		}
	}
	return false
}

// The places of a rank.
const (
	rankHost = iota
	rankHostLength
	rankFirst  // length of path, or of gRPC service
	rankSecond // length of gRPC method
	rankExact
	rankHeaders
	rankQuery
	rankMethod
)

// found is a rule that takes a request.
type found struct {
	rule int
	rank rank
	// how says in words what matched.
	how string
}

// matchable is what routes of both directions have.
type matchable struct {
	hosts []core.Host
	rules []rule
}

// rule is the part of a rule that selects requests.
type rule struct {
	http []core.HTTPMatch
	grpc []core.GRPCMatch
}

// match finds the rule of a route that fits a request best, or says why none does. Source: proxy chapter, section 12.
func (r *Request) match(m matchable, grpc bool) (best found, why string, ok bool) {
	var base rank
	hostHow := ""
	if len(m.hosts) > 0 {
		host, fits := r.bestHost(m.hosts)
		if !fits {
			texts := make([]string, len(m.hosts))
			for i, h := range m.hosts {
				texts[i] = hostText(h)
			}
			if r.host() == "" {
				return best, "is for the hosts " + list(texts) + ", and the request names none", false
			}
			return best, fmt.Sprintf("is for the hosts %s, not %s", list(texts), r.host()), false
		}
		base[rankHost], base[rankHostLength] = 2, len(host.Name)
		if host.Suffix {
			base[rankHost] = 1
		}
		hostHow = "host " + hostText(host) + ", "
	}
	var whys []string
	for i, rule := range m.rules {
		s, how, why, fits := r.rule(rule, grpc)
		if !fits {
			whys = append(whys, why)
			continue
		}
		s[rankHost], s[rankHostLength] = base[rankHost], base[rankHostLength]
		if !ok || s.beats(best.rank) {
			best, ok = found{rule: i, rank: s, how: hostHow + how}, true
		}
	}
	if len(m.rules) == 0 {
		return best, "has no rules", false
	}
	return best, "does not match: " + list(whys), ok
}

func hostText(h core.Host) string {
	if h.Suffix {
		return "*." + h.Name
	}
	return h.Name
}

func (r *Request) bestHost(hosts []core.Host) (best core.Host, ok bool) {
	name := strings.ToLower(r.host())
	for _, h := range hosts {
		want := strings.ToLower(strings.TrimSuffix(h.Name, "."))
		fits := name == want
		if h.Suffix {
			head, cut := strings.CutSuffix(name, "."+want)
			fits = cut && head != ""
		}
		if fits && (!ok || best.Suffix && !h.Suffix || best.Suffix == h.Suffix && len(h.Name) > len(best.Name)) {
			best, ok = h, true
		}
	}
	return best, ok
}

// rule finds the match of a rule that fits best.
func (r *Request) rule(rule rule, grpc bool) (best rank, how, why string, ok bool) {
	var whys []string
	consider := func(s rank, description, fault string) {
		if fault != "" {
			whys = append(whys, fault)
		} else if !ok || s.beats(best) {
			best, how, ok = s, description, true
		}
	}
	if grpc {
		if len(rule.grpc) == 0 {
			return best, "any call", "", true
		}
		for _, m := range rule.grpc {
			s, fault := r.grpcMatch(m)
			consider(s, grpcText(m), fault)
		}
		return best, how, strings.Join(whys, ", "), ok
	}
	if len(rule.http) == 0 {
		best[rankFirst] = 1
		return best, "any request", "", true
	}
	for _, m := range rule.http {
		s, fault := r.httpMatch(m)
		consider(s, httpText(m), fault)
	}
	return best, how, strings.Join(whys, ", "), ok
}

func httpText(m core.HTTPMatch) string {
	var parts []string
	if m.Method != "" {
		parts = append(parts, "method "+m.Method)
	}
	if m.PathMatch != "" {
		parts = append(parts, fmt.Sprintf("path %s %s", m.PathMatch, m.Path))
	}
	for _, h := range m.Headers {
		parts = append(parts, "header "+valueText(h))
	}
	for _, q := range m.Query {
		parts = append(parts, "query parameter "+valueText(q))
	}
	if len(parts) == 0 {
		return "any request"
	}
	return strings.Join(parts, ", ")
}

func grpcText(m core.GRPCMatch) string {
	var parts []string
	if m.Service != "" {
		parts = append(parts, "service "+m.Service)
	}
	if m.Method != "" {
		parts = append(parts, "method "+m.Method)
	}
	for _, h := range m.Headers {
		parts = append(parts, "header "+valueText(h))
	}
	if len(parts) == 0 {
		return "any call"
	}
	return strings.Join(parts, ", ")
}

func valueText(m core.ValueMatch) string {
	if m.Regex {
		return fmt.Sprintf("%s ~ %s", m.Name, m.Value)
	}
	return fmt.Sprintf("%s: %s", m.Name, m.Value)
}

func (r *Request) httpMatch(m core.HTTPMatch) (s rank, fault string) {
	path, query, _ := strings.Cut(r.Path, "?")
	length, fits := 1, true
	switch m.PathMatch {
	case core.PathExact:
		length, fits = len(m.Path), path == m.Path
		s[rankExact] = 1
	case core.PathPrefix:
		if prefix := strings.TrimSuffix(m.Path, "/"); prefix != "" {
			rest, cut := strings.CutPrefix(path, prefix)
			length, fits = len(prefix), cut && (rest == "" || rest[0] == '/')
		}
	case core.PathRegex:
		length, fits = len(path), spans(m.Path, path)
	}
	if !fits {
		return s, fmt.Sprintf("path %s %s", m.PathMatch, m.Path)
	}
	if m.Method != "" && m.Method != r.Method {
		return s, "method " + m.Method
	}
	if fault := r.headers(m.Headers); fault != "" {
		return s, fault
	}
	for _, q := range m.Query {
		if !queryFits(query, q) {
			return s, "query parameter " + valueText(q)
		}
	}
	s[rankFirst], s[rankHeaders], s[rankQuery] = length, len(m.Headers), len(m.Query)
	if m.Method != "" {
		s[rankMethod] = 1
	}
	return s, ""
}

func (r *Request) grpcMatch(m core.GRPCMatch) (s rank, fault string) {
	service, method, _ := r.rpc()
	switch {
	case m.Service != "" && m.Service != service:
		return s, "service " + m.Service
	case m.Method != "" && m.Method != method:
		return s, "method " + m.Method
	}
	s[rankFirst], s[rankSecond], s[rankHeaders] = len(m.Service), len(m.Method), len(m.Headers)
	return s, r.headers(m.Headers)
}

// headers returns the first header that does not fit.
func (r *Request) headers(matches []core.ValueMatch) (fault string) {
	for _, m := range matches {
		values := r.header(m.Name)
		if strings.EqualFold(m.Name, "host") && len(values) == 0 && r.Host != "" {
			values = []string{r.Host} // HTTP/2 has the authority instead
		}
		fits := false
		for _, v := range values {
			fits = fits || valueFits(m, v)
		}
		if !fits {
			return "header " + valueText(m)
		}
	}
	return ""
}

func queryFits(query string, m core.ValueMatch) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if pair != "" && decoded(name) == m.Name && valueFits(m, decoded(value)) {
			return true
		}
	}
	return false
}

// decoded is a part of a query in plain. What is not valid stands for itself, sequence by sequence.
func decoded(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	var b strings.Builder
	for len(text) > 0 {
		n := 1
		if text[0] == '%' && len(text) >= 3 {
			if plain, err := url.QueryUnescape(text[:3]); err == nil {
				b.WriteString(plain)
				text = text[3:]
				continue
			}
		}
		if text[0] == '+' {
			b.WriteByte(' ')
		} else {
			b.WriteByte(text[0])
		}
		text = text[n:]
	}
	return b.String()
}

func valueFits(m core.ValueMatch, value string) bool {
	if m.Regex {
		return spans(m.Value, value)
	}
	return value == m.Value
}

// spans reports whether the leftmost-first match of an expression is all of the text. Source: proxy API chapter, section 11.
func spans(expression, text string) bool {
	re, err := regexp.Compile(expression)
	if err != nil {
		return false // resource refuses such routes
	}
	at := re.FindStringIndex(text)
	return at != nil && at[0] == 0 && at[1] == len(text)
}
