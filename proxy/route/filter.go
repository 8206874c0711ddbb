package route

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Action is what becomes of a request after its filters.
type Action uint8

// The actions.
const (
	// Continue: the request goes on.
	Continue Action = iota
	// Redirected: answer with Verdict.Status and Verdict.Location. gRPC
	// requests get NOT_FOUND with the message "redirected".
	Redirected
	// Failed: a failure is to be made up, see Verdict.Failure.
	Failed
	// Broken: the policy cannot be applied; answer 500 with the reason
	// Verdict.Message in the log.
	Broken
	// Forbidden and InvalidBackend close TCP and TLS connections.
	Forbidden
	InvalidBackend
	// Preflight: a browser asks whether it may send a request; answer with
	// Verdict.Status and Verdict.Headers.
	Preflight
)

// Verdict is what the filters decided.
type Verdict struct {
	Action   Action
	Status   int
	Location string
	Failure  *model.Failure
	Headers  []model.Header
	Message  string
}

// ErrInvalidRedirect: the location of a redirect cannot be computed.
var ErrInvalidRedirect = errors.New("invalid redirect")

// ErrInvalidRewrite: the path of a rewrite cannot be computed.
var ErrInvalidRewrite = errors.New("invalid rewrite")

// Apply applies filters in order: it changes the request's headers until a
// filter decides. draw(n) is uniform in [0, n); nil means math/rand.
func Apply(filters []model.Filter, found Found, head *exchange.RequestHead, draw func(n uint32) uint32) Verdict {
	for i := range filters {
		f := &filters[i]
		switch f.Kind {
		case model.FilterRequestHeaders:
			Modify(f.Headers, &head.Fields)
			if head.Version == exchange.HTTP2 && names(f.Headers, "host") && head.Has("host") {
				// In HTTP/2 the authority is the host, and peers refuse
				// requests in which they differ.
				head.Authority = head.Get("host")
			}
		case model.FilterRedirect:
			loc, changed, err := Location(f.Redirect, found.Match, head)
			if err != nil {
				return Verdict{Action: Broken, Message: err.Error()}
			}
			if changed {
				return Verdict{Action: Redirected, Status: f.Redirect.Status, Location: loc, Message: "redirected"}
			}
		case model.FilterFailure:
			if Hit(f.Failure, draw) {
				return Verdict{Action: Failed, Failure: f.Failure, Status: f.Failure.Status, Message: f.Failure.Message}
			}
		case model.FilterRewrite:
			if err := rewrite(f.Rewrite, found.Match, head); err != nil {
				return Verdict{Action: Broken, Message: err.Error()}
			}
		case model.FilterCORS:
			if IsPreflight(head) {
				return Verdict{Action: Preflight, Status: statusPreflight, Headers: preflight(f.CORS, head), Message: "preflight"}
			}
		case model.FilterInternalError:
			return Verdict{Action: Broken, Message: f.Message}
		case model.FilterForbidden:
			return Verdict{Action: Forbidden, Message: f.Message}
		case model.FilterInvalidBackend:
			return Verdict{Action: InvalidBackend, Message: f.Message}
		}
	}
	return Verdict{}
}

// ApplyTCP is Apply for connections, to which only closing filters apply.
func ApplyTCP(filters []model.Filter) Verdict {
	for i := range filters {
		switch f := &filters[i]; f.Kind {
		case model.FilterForbidden:
			return Verdict{Action: Forbidden, Message: f.Message}
		case model.FilterInvalidBackend:
			return Verdict{Action: InvalidBackend, Message: f.Message}
		case model.FilterInternalError:
			return Verdict{Action: Broken, Message: f.Message}
		}
	}
	return Verdict{}
}

// ApplyResponse applies, in order, the filters that change responses. origin is
// the value of the request's Origin field, nil if it had none.
func ApplyResponse(filters []model.Filter, origin []byte, head *exchange.ResponseHead) {
	for i := range filters {
		switch f := &filters[i]; f.Kind {
		case model.FilterResponseHeaders:
			Modify(f.Headers, &head.Fields)
		case model.FilterCORS:
			share(f.CORS, origin, &head.Fields)
		}
	}
}

// Modify adds, then sets, then removes headers.
func Modify(m *model.HeaderModifier, f *exchange.Fields) {
	for _, h := range m.Add {
		f.Add(h.Name, h.Value)
	}
	for i, h := range m.Set {
		// Several values of one name replace the old ones together.
		again := false
		for _, e := range m.Set[:i] {
			again = again || e.Name == h.Name
		}
		if again {
			f.Add(h.Name, h.Value)
		} else {
			f.Set(h.Name, h.Value)
		}
	}
	for _, n := range m.Remove {
		f.Del(n)
	}
}

// names reports whether a modifier gives a header a value.
func names(m *model.HeaderModifier, name string) bool {
	is := func(h model.Header) bool { return h.Name == name }
	return slices.ContainsFunc(m.Set, is) || slices.ContainsFunc(m.Add, is)
}

// Delay draws for how long a request is to be held before its filters are
// applied, 0 for not at all. draw is as for Apply.
func Delay(filters []model.Filter, draw func(n uint32) uint32) time.Duration {
	var total time.Duration
	for i := range filters {
		if f := &filters[i]; f.Kind == model.FilterDelay && Share(f.Delay.Numerator, f.Delay.Denominator, draw) {
			total += f.Delay.Time
		}
	}
	return total
}

// Hit draws whether a failure is to be injected.
func Hit(f *model.Failure, draw func(n uint32) uint32) bool {
	return Share(f.Numerator, f.Denominator, draw)
}

// Share draws whether a request is among numerator out of denominator.
func Share(numerator, denominator uint32, draw func(n uint32) uint32) bool {
	if numerator >= denominator {
		return true
	}
	if draw == nil {
		draw = rand.Uint32N
	}
	return draw(denominator) < numerator
}

// Location computes where a redirect leads. changed is false if that is where
// the request came to, so that it goes on instead; but a redirect that names no
// place, only a status, is followed as written (docs/differences.md). m is the
// match that was found, nil for none.
func Location(r *model.Redirect, m *model.Match, head *exchange.RequestHead) (loc string, changed bool, err error) {
	reqScheme := "http"
	if len(head.Scheme) > 0 {
		reqScheme = strings.ToLower(string(head.Scheme))
	}
	authority := Authority(head)
	if i := bytes.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	h, p := splitPort(authority)
	reqHost := string(h)
	reqPort := 0
	if n, err := strconv.ParseUint(string(p), 10, 16); err == nil && int(n) != defaultPort(reqScheme) {
		reqPort = int(n)
	}
	reqPath := string(head.Path)
	if reqPath == "" {
		reqPath = "/"
	}

	scheme, host, port, path := reqScheme, reqHost, reqPort, reqPath
	if r.Scheme != "" {
		scheme = r.Scheme
	}
	if r.Host != "" {
		host = r.Host
	}
	if r.Port != 0 {
		port = int(r.Port)
	}
	if host == "" {
		return "", false, ErrInvalidRedirect
	}
	if path, err = replace(r.Path, m, reqPath); err != nil {
		return "", false, ErrInvalidRedirect
	}
	loc = uri(scheme, host, port, path)
	placeless := r.Scheme == "" && r.Host == "" && r.Port == 0 && r.Path == model.PathModifier{}
	return loc, placeless || loc != uri(reqScheme, reqHost, reqPort, reqPath), nil
}

// errNoPrefix: a prefix is to be replaced where none was matched.
var errNoPrefix = errors.New("no prefix was matched")

// replace changes a path, which may have a query.
func replace(c model.PathModifier, m *model.Match, path string) (string, error) {
	plain, query, hasQuery := strings.Cut(path, "?")
	switch {
	case c.Full != "":
		path = c.Full
	case c.HasPrefix:
		if m == nil || m.Path.Kind != model.PathPrefix {
			return "", errNoPrefix
		}
		rest := plain[min(len(plain), len(strings.TrimSuffix(m.Path.Value, "/"))):]
		path = strings.TrimSuffix(c.Prefix, "/") + rest
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
	default:
		return path, nil
	}
	if hasQuery && !strings.Contains(path, "?") {
		path += "?" + query
	}
	return path, nil
}

// rewrite changes the request's authority and path.
func rewrite(r *model.Rewrite, m *model.Match, head *exchange.RequestHead) error {
	// In absolute form or not, the path is the head's own; "*" has none.
	if r.Path != (model.PathModifier{}) && bytes.HasPrefix(head.Path, []byte("/")) {
		path, err := replace(r.Path, m, string(head.Path))
		if err != nil {
			return ErrInvalidRewrite
		}
		head.Path = head.Keep(path)
	}
	if r.Host != "" {
		head.Authority = head.Keep(r.Host)
		if head.Version != exchange.HTTP2 || head.Has("host") {
			head.Set("host", r.Host)
		}
	}
	return nil
}

func uri(scheme, host string, port int, path string) string {
	s := scheme + "://" + host
	if port != 0 && port != defaultPort(scheme) {
		s += ":" + strconv.Itoa(port)
	}
	return s + path
}

func defaultPort(scheme string) int {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}
