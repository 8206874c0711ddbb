package route

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// head parses "GET http://host/path?query name=value name=value".
func head(s string) *exchange.RequestHead {
	w := strings.Fields(s)
	h := &exchange.RequestHead{Method: []byte(w[0])}
	target := w[1]
	if scheme, rest, ok := strings.Cut(target, "://"); ok {
		h.Scheme = []byte(scheme)
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		h.Authority, target = []byte(rest[:i]), rest[i:]
	}
	h.Path = []byte(target)
	for _, f := range w[2:] {
		n, v, _ := strings.Cut(f, "=")
		h.Add(n, v)
	}
	return h
}

// match parses "path=/a prefix=/a regex=.. GET header:x=1 header:x~re query:x=1 svc=a rpc=b".
func match(t *testing.T, s string) model.Match {
	regex := func(e string) *model.Regex {
		r, err := model.CompileRegex(e)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var m model.Match
	for _, w := range strings.Fields(s) {
		if name, v, ok := strings.Cut(w, ":"); ok && (name == "header" || name == "query") {
			var hm model.HeaderMatch
			if n, e, ok := strings.Cut(v, "~"); ok {
				hm = model.HeaderMatch{Name: n, Regex: regex(e)}
			} else {
				n, e, _ := strings.Cut(v, "=")
				hm = model.HeaderMatch{Name: n, Exact: e}
			}
			if name == "header" {
				m.Headers = append(m.Headers, hm)
			} else {
				m.Query = append(m.Query, model.QueryMatch(hm))
			}
			continue
		}
		k, v, ok := strings.Cut(w, "=")
		switch {
		case !ok:
			m.Method = w
		case k == "path":
			m.Path = model.PathMatch{Kind: model.PathExact, Value: v}
		case k == "prefix":
			m.Path = model.PathMatch{Kind: model.PathPrefix, Value: v}
		case k == "regex":
			m.Path = model.PathMatch{Kind: model.PathRegex, Value: v, Regex: regex(v)}
		case k == "svc":
			m.Service = v
		case k == "rpc":
			m.RPC = v
		}
	}
	return m
}

// routes makes a list; each line is "name [hosts] | match | match" where a host
// is "a.b" or "*.b".
func routes(t *testing.T, grpc bool, lines ...string) *model.Routes {
	rs := &model.Routes{GRPC: grpc}
	for _, l := range lines {
		parts := strings.Split(l, "|")
		w := strings.Fields(parts[0])
		r := model.Route{Meta: model.Default(w[0])}
		for _, h := range w[1:] {
			name, suffix := strings.CutPrefix(h, "*.")
			r.Hosts = append(r.Hosts, model.HostMatch{Name: name, Suffix: suffix})
		}
		var rule model.Rule
		for _, p := range parts[1:] {
			rule.Matches = append(rule.Matches, match(t, p))
		}
		r.Rules = []model.Rule{rule}
		rs.List = append(rs.List, r)
	}
	return rs
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name   string
		grpc   bool
		routes []string
		want   map[string]string // request → route, "" for none
	}{
		{"hosts", false, []string{"none", "exact a.example.com", "suffix *.example.com", "deep *.b.example.com"}, map[string]string{
			"GET http://a.example.com/":                  "exact",
			"GET http://A.Example.COM.:8080/":            "exact",
			"GET / host=a.example.com":                   "exact",
			"GET http://x.example.com/":                  "suffix",
			"GET http://x.b.example.com/":                "deep",
			"GET http://x.b.example.com/ host=other.com": "deep",
			"GET http://example.com/":                    "none",
			"GET http://notexample.com/":                 "none",
			"GET /":                                      "none",
		}},
		{"absent host does not match", false, []string{"r a.b"}, map[string]string{"GET /": "", "GET http://[::1]:80/": ""}},
		{"host before path", false, []string{"path|path=/long/path", "host h.x|prefix=/"}, map[string]string{
			"GET http://h.x/long/path": "host", "GET http://y/long/path": "path", "GET http://y/": ""}},
		{"prefix on segments", false, []string{"r|prefix=/foo/"}, map[string]string{
			"GET /foo": "r", "GET /foo/": "r", "GET /foo/bar": "r", "GET /foobar": "", "GET /fo": "", "GET /foo?x=/": "r"}},
		{"prefix / is everything", false, []string{"r|prefix=/"}, map[string]string{"GET /x": "r", "OPTIONS *": "r"}},
		{"no matches is everything", false, []string{"r", "s|prefix=/a"}, map[string]string{"GET /x": "r", "GET /a/x": "s"}},
		{"exact has no decoding", false, []string{"r|path=/a%20b"}, map[string]string{"GET /a%20b": "r", "GET /a+b": ""}},
		{"longer path", false, []string{"p1|prefix=/a", "p2|prefix=/a/b", "re|regex=/a/b/c.*", "ex|path=/a/b"}, map[string]string{
			"GET /a/x": "p1", "GET /a/b": "ex", "GET /a/b/x": "p2", "GET /a/b/cde": "re"}},
		{"regex spans, leftmost first", false, []string{"r|regex=/a|/ab"}, map[string]string{"GET /a": "r", "GET /ab": ""}},
		{"headers", false, []string{"one|header:x=1", "two|header:x=1 header:y~a+", "none"}, map[string]string{
			"GET /": "none", "GET / X=1": "one", "GET / x=2 x=1": "one", "GET / x=1 y=aaa": "two", "GET / x=1 y=aab": "one", "GET / x=1,1": "none"}},
		{"host header of http/2", false, []string{"r|header:host=a.b"}, map[string]string{"GET http://a.b/": "r"}},
		{"query", false, []string{"one|query:q=a&b", "re|query:n~[0-9]+", "none"}, map[string]string{
			"GET /?q=a%26b": "one", "GET /?x&q=1&q=a%26b": "one", "GET /?Q=a%26b": "none", "GET /?n=12": "re", "GET /?n=1+2": "none", "GET /?q=%zz": "none"}},
		{"path, then headers, query, method", false, []string{"m|GET", "q|query:a=1", "h|header:x=1", "p|prefix=/pp"}, map[string]string{
			"GET /": "m", "GET /?a=1": "q", "GET /?a=1 x=1": "h", "GET /pp?a=1 x=1": "p", "POST /": ""}},
		{"exact before others of its length", false, []string{"a|prefix=/x header:h=1", "b|path=/x", "c|regex=/x"}, map[string]string{"GET /x": "b", "GET /x h=1": "b"}},
		{"ties: first in the list", false, []string{"a|prefix=/x", "b|regex=/x"}, map[string]string{"GET /x": "a"}},
		{"best match of a rule counts", false, []string{"a|prefix=/x/y", "b|prefix=/|prefix=/x/y/z"}, map[string]string{
			"GET /x/y/z": "b", "GET /x/y": "a", "GET /": "b"}},
		{"grpc", true, []string{"any", "svc|svc=a.B", "rpc|svc=a.B rpc=C", "meth|rpc=C", "hdr|svc=a.B header:x=1"}, map[string]string{
			"POST /a.B/C":     "rpc",
			"POST /a.B/D":     "svc",
			"POST /a.B/D x=1": "hdr",
			"POST /z/C":       "meth",
			"POST /z/z":       "any",
			"POST /z/z/y":     "any",
			"GET /a.B/C":      "",
			"POST /a.B":       "",
			"POST /a.B/":      "",
		}},
	} {
		rs := routes(t, c.grpc, c.routes...)
		for req, want := range c.want {
			f, ok := Find(rs, head(req))
			got := ""
			if ok {
				got = f.Route.Meta.Name
			}
			if got != want {
				t.Errorf("%s: %s: %q, want %q", c.name, req, got, want)
			}
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	rs := routes(t, false, "a h.x *.y|prefix=/a header:x=1 query:q=1", "b|path=/a/b")
	h := head("GET http://h.x/a/b?q=1 x=1")
	if n := testing.AllocsPerRun(100, func() { Find(rs, h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestFindSNI(t *testing.T) {
	rs := []model.TCPRoute{
		{Meta: model.Default("suffix"), SNIs: []model.HostMatch{{Name: "example.com", Suffix: true}}},
		{Meta: model.Default("deep"), SNIs: []model.HostMatch{{Name: "b.example.com", Suffix: true}}},
		{Meta: model.Default("exact"), SNIs: []model.HostMatch{{Name: "a.example.com"}}},
	}
	for sni, want := range map[string]string{
		"a.example.com": "exact", "A.EXAMPLE.com": "exact", "x.example.com": "suffix", "x.b.example.com": "deep", "example.com": "", "": "",
	} {
		got := ""
		if r := FindSNI(rs, sni); r != nil {
			got = r.Meta.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", sni, got, want)
		}
	}
}

func TestLocation(t *testing.T) {
	prefix := &model.Match{Path: model.PathMatch{Kind: model.PathPrefix, Value: "/old/"}}
	root := &model.Match{Path: model.PathMatch{Kind: model.PathPrefix, Value: "/"}}
	for _, c := range []struct {
		req   string
		r     model.Redirect
		m     *model.Match
		want  string
		same  bool
		wrong bool
	}{
		{req: "GET /p?q=1 host=a.b", r: model.Redirect{Scheme: "https"}, want: "https://a.b/p?q=1"},
		{req: "GET http://a.b:8080/p", r: model.Redirect{Host: "c.d"}, want: "http://c.d:8080/p"},
		{req: "GET http://a.b:80/p", r: model.Redirect{Host: "c.d"}, want: "http://c.d/p"},
		{req: "GET http://a.b:80/p", r: model.Redirect{Scheme: "https"}, want: "https://a.b/p"},
		{req: "GET http://a.b/p", r: model.Redirect{Port: 8443, Scheme: "https"}, want: "https://a.b:8443/p"},
		{req: "GET http://a.b/p", r: model.Redirect{Port: 443, Scheme: "https"}, want: "https://a.b/p"},
		{req: "GET http://a.b/old/x?q=1", r: model.Redirect{Path: model.PathModifier{HasPrefix: true, Prefix: "/new"}}, m: prefix, want: "http://a.b/new/x?q=1"},
		{req: "GET http://a.b/old", r: model.Redirect{Path: model.PathModifier{HasPrefix: true, Prefix: "/"}}, m: prefix, want: "http://a.b/"},
		{req: "GET http://a.b/x", r: model.Redirect{Path: model.PathModifier{HasPrefix: true, Prefix: "/new/"}}, m: root, want: "http://a.b/new/x"},
		{req: "GET http://a.b/x?q=1", r: model.Redirect{Path: model.PathModifier{Full: "/full"}}, want: "http://a.b/full?q=1"},
		{req: "GET http://a.b/x", r: model.Redirect{Path: model.PathModifier{HasPrefix: true, Prefix: "/n"}}, wrong: true},
		{req: "GET http://a.b/x", r: model.Redirect{Path: model.PathModifier{HasPrefix: true, Prefix: "/n"}}, m: &model.Match{Path: model.PathMatch{Kind: model.PathExact, Value: "/x"}}, wrong: true},
		{req: "GET http://a.b/x", r: model.Redirect{Scheme: "http", Host: "a.b", Port: 80}, same: true},
		{req: "GET http://a.b/x", r: model.Redirect{Status: 308}, want: "http://a.b/x"},
		{req: "GET /x", r: model.Redirect{Scheme: "https"}, wrong: true},
		{req: "GET /x host=[::1]:8080", r: model.Redirect{Scheme: "https"}, want: "https://[::1]:8080/x"},
	} {
		loc, changed, err := Location(&c.r, c.m, head(c.req))
		if c.wrong {
			if !errors.Is(err, ErrInvalidRedirect) {
				t.Errorf("%s %+v: %q, %v", c.req, c.r, loc, err)
			}
			continue
		}
		if err != nil || changed == c.same || changed && loc != c.want {
			t.Errorf("%s %+v: %q %v %v, want %q", c.req, c.r, loc, changed, err, c.want)
		}
	}
}

func TestApplyOrder(t *testing.T) {
	never := &model.Failure{Status: 503, Numerator: 1, Denominator: 2}
	draw := func(uint32) uint32 { return 1 }
	filters := []model.Filter{
		{Kind: model.FilterRequestHeaders, Headers: &model.HeaderModifier{
			Add:    []model.Header{{Name: "a", Value: "2"}, {Name: "b", Value: "1"}, {Name: "c", Value: "1"}},
			Set:    []model.Header{{Name: "b", Value: "3"}, {Name: "b", Value: "4"}},
			Remove: []string{"c"},
		}},
		{Kind: model.FilterFailure, Failure: never},
		{Kind: model.FilterRedirect, Redirect: &model.Redirect{Scheme: "http", Status: 301}}, // to itself
		{Kind: model.FilterFailure, Failure: &model.Failure{Status: 418, Message: "teapot", Numerator: 1, Denominator: 1}},
		{Kind: model.FilterInternalError},
	}
	h := head("GET http://x/ A=1 b=0 c=0")
	v := Apply(filters, Found{}, h, draw)
	if v.Action != Failed || v.Status != 418 || v.Message != "teapot" {
		t.Errorf("%+v", v)
	}
	var got []string
	for _, f := range h.List {
		got = append(got, fmt.Sprintf("%s=%s", f.Name, f.Value))
	}
	if s := strings.Join(got, " "); s != "A=1 b=3 a=2 b=4" {
		t.Error(s)
	}
	if v := ApplyTCP([]model.Filter{{Kind: model.FilterForbidden}}); v.Action != Forbidden {
		t.Error(v)
	}
	var resp exchange.ResponseHead
	ApplyResponse([]model.Filter{{Kind: model.FilterResponseHeaders, Headers: &model.HeaderModifier{Set: []model.Header{{Name: "x", Value: "y"}}}}}, nil, &resp)
	if string(resp.Get("x")) != "y" {
		t.Error("response header not set")
	}
}

func TestParams(t *testing.T) {
	policy := &model.Retry{Max: 3, MaxRequestBytes: 10, Codes: model.Codes(14), Timeout: time.Second}
	for _, c := range []struct {
		name     string
		rule     model.Rule
		fields   string
		timeouts model.Timeouts
		retry    string
		left     int
	}{
		{"not allowed", model.Rule{Retry: policy, Timeouts: model.Timeouts{Idle: 1}}, "l5d-timeout=5s l5d-retry-limit=9", model.Timeouts{Idle: 1}, "3 10 [] 16384 1s none", 2},
		{"nothing asked", model.Rule{AllowHeaders: true, Retry: policy}, "x=y", model.Timeouts{}, "3 10 [] 16384 1s none", 1},
		{"timeouts", model.Rule{AllowHeaders: true}, "l5d-timeout=5s l5d-request-timeout=4s l5d-response-timeout=300ms", model.Timeouts{Request: 4 * time.Second, Response: 300 * time.Millisecond}, "", 0},
		{"invalid are removed", model.Rule{AllowHeaders: true}, "l5d-timeout=5 l5d-retry-http=6xx l5d-retry-grpc=ok l5d-retry-limit=x l5d-retry-timeout=1.5s", model.Timeouts{}, "", 0},
		{"invalid one does not undo the other", model.Rule{AllowHeaders: true}, "l5d-timeout=5s l5d-request-timeout=x", model.Timeouts{Request: 5 * time.Second}, "", 0},
		{"retry by headers alone", model.Rule{AllowHeaders: true}, "l5d-retry-http=5xx,404,gateway-error,200-202", model.Timeouts{}, "1 65536 [{500 599} {404 404} {502 504} {200 202}] 0 0s {25ms 250ms 1}", 0},
		{"limit alone does not retry", model.Rule{AllowHeaders: true}, "l5d-retry-limit=4", model.Timeouts{}, "", 0},
		{"over policy", model.Rule{AllowHeaders: true, Retry: policy}, "l5d-retry-limit=4 l5d-retry-timeout=2s l5d-retry-grpc=cancelled,deadline-exceeded", model.Timeouts{}, "4 10 [] 18 2s none", 0},
	} {
		h := head("GET / " + c.fields)
		timeouts, r := Params(&c.rule, h)
		got := ""
		if r != nil {
			b := "none"
			if r.Backoff != nil {
				b = fmt.Sprint(*r.Backoff)
			}
			got = fmt.Sprintf("%d %d %v %d %v %s", r.Max, r.MaxRequestBytes, r.Statuses, r.Codes, r.Timeout, b)
		}
		if timeouts != c.timeouts || got != c.retry || len(h.List) != c.left {
			t.Errorf("%s: %+v, %s, %d fields", c.name, timeouts, got, len(h.List))
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "5ms": 5 * time.Millisecond, " 2s ": 2 * time.Second, "3m": 3 * time.Minute, "1h": time.Hour, "2d": 48 * time.Hour,
		"5": -1, "": -1, "1.5s": -1, "-1s": -1, "1 s": -1, "s": -1, "99999999999999d": -1, "1us": -1,
	} {
		d, ok := ParseDuration(in)
		if want < 0 && ok || want >= 0 && (!ok || d != want) {
			t.Errorf("%q: %v, %v", in, d, ok)
		}
	}
}
