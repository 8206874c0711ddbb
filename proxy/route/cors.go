package route

import (
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Cross-origin resource sharing. Source: the Fetch standard, section "CORS
// protocol", and the Gateway API's HTTPCORSFilter.

// statusPreflight answers preflight requests, whether or not they are allowed:
// what the browser goes by are the headers.
const statusPreflight = 200

// Origin returns the request's Origin field if a filter shares responses with
// other origins, and nil otherwise.
func Origin(filters []model.Filter, head *exchange.RequestHead) []byte {
	for i := range filters {
		if filters[i].Kind == model.FilterCORS {
			return head.Get("origin")
		}
	}
	return nil
}

// IsPreflight reports whether a browser asks by this request if it may send
// another.
func IsPreflight(head *exchange.RequestHead) bool {
	return string(head.Method) == "OPTIONS" && head.Has("origin") && head.Has("access-control-request-method")
}

// preflight is the answer to a preflight request.
func preflight(c *model.CORS, head *exchange.RequestHead) []model.Header {
	allowed := allowOrigin(c, head.Get("origin"))
	if allowed == "" {
		return []model.Header{{Name: "vary", Value: "origin"}}
	}
	answer := []model.Header{{Name: "access-control-allow-origin", Value: allowed}}
	if allowed != "*" {
		answer = append(answer, model.Header{Name: "vary", Value: "origin"})
	}
	add := func(name, value string) {
		if value != "" {
			answer = append(answer, model.Header{Name: name, Value: value})
		}
	}
	if c.Credentials {
		add("access-control-allow-credentials", "true")
	}
	methods, headers := c.Methods, c.Headers
	if c.AnyMethod {
		methods = string(head.Get("access-control-request-method"))
	}
	if c.AnyHeader {
		headers = string(head.Get("access-control-request-headers"))
	}
	add("access-control-allow-methods", methods)
	add("access-control-allow-headers", headers)
	add("access-control-max-age", c.MaxAge)
	return answer
}

// corsFields are those that share sets. What the server says of them is
// dropped: with two answers, browsers take neither.
var corsFields = []string{
	"access-control-allow-origin",
	"access-control-allow-credentials",
	"access-control-expose-headers",
}

// share marks a response as one that a page of the origin may read.
func share(c *model.CORS, origin []byte, f *exchange.Fields) {
	if origin == nil {
		return
	}
	for _, name := range corsFields {
		f.Del(name)
	}
	allowed := allowOrigin(c, origin)
	if allowed != "*" {
		f.Add("vary", "origin")
	}
	if allowed == "" {
		return
	}
	f.Add("access-control-allow-origin", allowed)
	if c.Credentials {
		f.Add("access-control-allow-credentials", "true")
	}
	if c.Expose != "" {
		f.Add("access-control-expose-headers", c.Expose)
	}
}

// allowOrigin is the value of access-control-allow-origin, empty if the origin
// is not allowed.
func allowOrigin(c *model.CORS, origin []byte) string {
	if c.AnyOrigin {
		if c.Credentials {
			return string(origin)
		}
		return "*"
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(string(origin)), "://")
	if !ok {
		return ""
	}
	h, p := splitPort([]byte(rest))
	host, port := string(h), defaultPort(scheme)
	if len(p) > 0 {
		n, err := strconv.ParseUint(string(p), 10, 16)
		if err != nil {
			return ""
		}
		port = int(n)
	}
	for i := range c.Origins {
		o := &c.Origins[i]
		if o.Scheme != scheme || int(o.Port) != port {
			continue
		}
		if host == o.Host && !o.Wildcard || o.Wildcard && len(host) > len(o.Host) && strings.HasSuffix(host, o.Host) {
			return string(origin)
		}
	}
	return ""
}
