package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/linkerd-go/linkerd-go/test/e2e/actor"
)

// scene is a text file under testdata/policy: steps, and the resources that
// they apply. testdata/policy/README.md is the language.
type scene struct {
	name  string
	path  string
	alone bool // is performed while no other is
	steps []step
	files map[string]string
}

// step is a line of a scene.
type step struct {
	line int
	text string
	// do performs it; an error fails the scene.
	do func(p *performance) error
}

// readScene reads a file, with the names of a stage filled in. All that can be
// wrong with a scene without a cluster is found here.
func readScene(path string, names *strings.Replacer) (*scene, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ar := txtar.Parse([]byte(names.Replace(string(raw))))
	s := &scene{
		name: strings.TrimSuffix(filepath.Base(path), ".txtar"), path: path,
		alone: filepath.Base(filepath.Dir(path)) == "alone", files: map[string]string{},
	}
	for _, f := range ar.Files {
		s.files[f.Name] = string(f.Data)
	}
	for i, text := range strings.Split(string(ar.Comment), "\n") {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		words, err := splitWords(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		do, err := s.parse(words)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", path, i+1, text, err)
		}
		s.steps = append(s.steps, step{i + 1, text, do})
	}
	if len(s.steps) == 0 {
		return nil, fmt.Errorf("%s: no steps", path)
	}
	return s, nil
}

// splitWords splits at blanks outside of double quotes, and drops the quotes.
func splitWords(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case (r == ' ' || r == '\t') && !quoted:
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if begun {
		out = append(out, word.String())
	}
	return out, nil
}

// parse makes a step of its words.
func (s *scene) parse(words []string) (func(*performance) error, error) {
	verb, args := words[0], words[1:]
	if len(args) == 0 {
		return nil, fmt.Errorf("nothing is said of what to %s", verb)
	}
	switch verb {
	case "apply", "delete":
		for _, f := range args {
			if _, ok := s.files[f]; !ok {
				return nil, fmt.Errorf("no file %s", f)
			}
		}
		if verb == "apply" {
			return func(p *performance) error { return p.applyFiles(args) }, nil
		}
		return func(p *performance) error { return p.deleteFiles(args) }, nil
	case "refused":
		if len(args) != 2 || s.files[args[0]] == "" {
			return nil, fmt.Errorf("want a file and a text")
		}
		return func(p *performance) error { return p.refused(args[0], args[1]) }, nil
	case "annotate", "label":
		if len(args) < 2 || !strings.Contains(args[0], "/") {
			return nil, fmt.Errorf("want KIND/NAME and %ss", verb)
		}
		field := map[string]string{"annotate": "annotations", "label": "labels"}[verb]
		return func(p *performance) error { return p.mark(field, args[0], args[1:]) }, nil
	case "condition":
		kind, status, ok := strings.Cut(args[len(args)-1], "=")
		if len(args) != 2 || !ok {
			return nil, fmt.Errorf("want KIND/NAME TYPE=STATUS")
		}
		return func(p *performance) error { return p.condition(args[0], kind, status) }, nil
	case "ready":
		return func(p *performance) error { return p.ready(args) }, nil
	case "status":
		return parseStatus(args)
	case "mood":
		return parseMood(args)
	case "expect", "always", "hold", "flow":
		return parseCall(verb, args)
	case "arrived":
		if len(args) < 2 {
			return nil, fmt.Errorf("want SERVER FLOW…")
		}
		return func(p *performance) error { return p.arrived(args[0], args[1:]) }, nil
	case "still":
		return func(p *performance) error { return p.still(args) }, nil
	case "says", "flowed":
		return parseSays(verb, args)
	case "cli":
		return parseCLI(args)
	case "sh", "finally":
		if !s.alone {
			return nil, fmt.Errorf("only scenes in the folder alone may disturb others")
		}
		run := func() error {
			_, err := shell(6*time.Minute, strings.Join(args, " "))
			return err
		}
		return func(p *performance) error {
			if verb == "sh" {
				return run()
			}
			p.undo = append(p.undo, func(context.Context) error { return run() })
			return nil
		}, nil
	case "metric":
		return parseMetric(args)
	case "log":
		if len(args) != 2 {
			return nil, fmt.Errorf("want an actor and a text")
		}
		return func(p *performance) error { return p.logged(args[0], args[1]) }, nil
	}
	return nil, fmt.Errorf("no step is called %q", verb)
}

// cut splits words at the arrow.
func cut(words []string) (before, after []string, err error) {
	for i, w := range words {
		if w == "->" {
			if i == 0 || i == len(words)-1 {
				break
			}
			return words[:i], words[i+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("want … -> OUTCOME")
}

// verbs are the ways to call.
var verbs = map[string]struct {
	protocol, method string
	port             int
}{
	"get": {actor.HTTP, "GET", 80}, "head": {actor.HTTP, "HEAD", 80}, "post": {actor.HTTP, "POST", 80},
	"put": {actor.HTTP, "PUT", 80}, "delete": {actor.HTTP, "DELETE", 80}, "h2": {actor.HTTP2, "GET", 80},
	"grpc": {actor.GRPC, "", 8090}, "stream": {actor.Stream, "", 8090}, "websocket": {actor.WebSocket, "", 80},
	"tcp": {actor.TCP, "", 7070}, "tls": {actor.TLS, "", 8443},
}

// parseCall is of
//
//	expect CLIENT VERB HOST[:PORT][/PATH] [OPTIONS] -> OUTCOME [CHECKS]
//	always …
//	hold NAME CLIENT VERB …
//	flow NAME CLIENT VERB HOST[:PORT][/PATH] [OPTIONS]
func parseCall(verb string, words []string) (func(*performance) error, error) {
	left, right := words, []string{"any"}
	var err error
	if verb != "flow" {
		if left, right, err = cut(words); err != nil {
			return nil, err
		}
	}
	held := ""
	if verb == "hold" || verb == "flow" {
		held, left = left[0], left[1:]
	}
	if len(left) < 3 {
		return nil, fmt.Errorf("want CLIENT VERB TARGET")
	}
	client, how, target := left[0], left[1], left[2]
	v, ok := verbs[how]
	if !ok {
		return nil, fmt.Errorf("no verb is called %q", how)
	}
	call := actor.Call{Protocol: v.protocol, Method: v.method, Header: map[string]string{}}
	host, path, slash := strings.Cut(target, "/")
	if host == "pod" {
		var name string
		name, path, slash = strings.Cut(path, "/")
		host = "pod/" + name
	}
	if slash {
		call.Path = "/" + path
	} else if v.protocol == actor.HTTP || v.protocol == actor.HTTP2 || v.protocol == actor.WebSocket {
		return nil, fmt.Errorf("the target has no path")
	}
	if !strings.Contains(host, ":") {
		host += ":" + strconv.Itoa(v.port)
	}
	for _, o := range left[3:] {
		if err := option(&call, o); err != nil {
			return nil, err
		}
	}
	want, err := parseWanted(right)
	if err != nil {
		return nil, err
	}
	// The call is shared by performances: each takes a copy.
	return func(p *performance) error {
		c := call
		var err error
		if c.Target, err = p.stage.address(host); err != nil {
			return err
		}
		switch verb {
		case "hold":
			return p.hold(held, client, c, want)
		case "flow":
			return p.flow(held, client, c)
		case "always":
			return p.once(client, c, want)
		}
		return p.expect(client, c, want)
	}, nil
}

// option reads KEY=VALUE of a call.
func option(c *actor.Call, o string) (err error) {
	key, value, ok := strings.Cut(o, "=")
	if !ok {
		return fmt.Errorf("option %q has no value", o)
	}
	times := func() (string, int, error) {
		v, n, ok := strings.Cut(value, "*")
		if !ok {
			return v, 0, nil
		}
		i, err := strconv.Atoi(n)
		return v, i, err
	}
	switch {
	case key == "times":
		c.Times, err = strconv.Atoi(value)
	case key == "method":
		c.Method = value
	case key == "body":
		c.Body, err = strconv.ParseInt(value, 10, 64)
	case key == "host":
		c.Header["Host"] = value
	case key == "sni":
		c.ServerName = value
	case key == "proxied":
		c.Proxied = value
	case key == "numbered":
		c.Numbered, c.NumberedTo, err = times()
	case key == "limit":
		c.Limit, err = time.ParseDuration(value)
	case key == "fail":
		c.Fail, c.FailTimes, err = times()
	case key == "delay":
		var d string
		if d, c.DelayTimes, err = times(); err == nil {
			c.Delay, err = time.ParseDuration(d)
		}
	case strings.HasPrefix(key, "header:"):
		c.Header[strings.TrimPrefix(key, "header:")] = value
	default:
		err = fmt.Errorf("no option is called %q", key)
	}
	return err
}

// span is a number's bounds: N, LO..HI, LO.. or ..HI.
type span struct{ lo, hi float64 }

func parseSpan(s string) (span, error) {
	lo, hi, ok := strings.Cut(s, "..")
	out := span{0, 1e18}
	var err error
	if !ok {
		hi = lo
	}
	if lo != "" {
		if out.lo, err = strconv.ParseFloat(lo, 64); err != nil {
			return out, err
		}
	}
	if hi != "" {
		out.hi, err = strconv.ParseFloat(hi, 64)
	}
	return out, err
}

func (s span) holds(v float64) bool { return s.lo <= v && v <= s.hi }

func (s span) String() string {
	if s.hi == 1e18 {
		return fmt.Sprintf("%v..", s.lo)
	}
	return fmt.Sprintf("%v..%v", s.lo, s.hi)
}

// parseSpans reads NAME:SPAN,NAME:SPAN.
func parseSpans(s string) (map[string]span, error) {
	out := map[string]span{}
	for _, e := range strings.Split(s, ",") {
		name, n, ok := strings.Cut(e, ":")
		if !ok {
			return nil, fmt.Errorf("%q is not NAME:COUNT", e)
		}
		sp, err := parseSpan(n)
		if err != nil {
			return nil, err
		}
		out[name] = sp
	}
	return out, nil
}

// wanted is what a scene says of results.
type wanted struct {
	outcome  string          // of every result, or
	mixed    map[string]span // how many had which
	share    map[string]span // how many were answered by whom
	servers  span            // how many actors answered
	cycle    int             // results so far apart are by the same actor
	as       string          // a held conversation: whoever answered it has to answer
	min, max time.Duration
	checks   []check
}

// check is of one result.
type check struct {
	text string
	ok   func(*actor.Result) bool
}

func parseWanted(words []string) (*wanted, error) {
	w := &wanted{outcome: words[0], servers: span{0, 1e18}}
	var err error
	if strings.Contains(words[0], ":") {
		w.outcome = ""
		if w.mixed, err = parseSpans(words[0]); err != nil {
			return nil, err
		}
	}
	for _, c := range words[1:] {
		if d, ok := strings.CutPrefix(c, "took<"); ok {
			if w.max, err = time.ParseDuration(d); err != nil {
				return nil, err
			}
			continue
		}
		if d, ok := strings.CutPrefix(c, "took>"); ok {
			if w.min, err = time.ParseDuration(d); err != nil {
				return nil, err
			}
			continue
		}
		key, value, ok := strings.Cut(c, "=")
		if !ok {
			return nil, fmt.Errorf("check %q has no value", c)
		}
		switch {
		case key == "share":
			if w.share, err = parseSpans(value); err != nil {
				return nil, err
			}
		case key == "servers":
			if w.servers, err = parseSpan(value); err != nil {
				return nil, err
			}
		case key == "cycle":
			if w.cycle, err = strconv.Atoi(value); err != nil {
				return nil, err
			}
		case key == "as":
			w.as = value
		case key == "by":
			w.checks = append(w.checks, check{c, func(r *actor.Result) bool { return r.By == value }})
		case key == "error":
			w.checks = append(w.checks, check{c, func(r *actor.Result) bool { return strings.Contains(r.Header["l5d-proxy-error"], value) }})
		case key == "message":
			w.checks = append(w.checks, check{c, func(r *actor.Result) bool { return strings.Contains(r.Detail, value) }})
		case strings.HasPrefix(key, "header:"):
			name := strings.ToLower(strings.TrimPrefix(key, "header:"))
			w.checks = append(w.checks, check{c, func(r *actor.Result) bool { return r.Header[name] == value }})
		case strings.HasPrefix(key, "seen:"):
			name := strings.ToLower(strings.TrimPrefix(key, "seen:"))
			w.checks = append(w.checks, check{c, func(r *actor.Result) bool { return r.Seen[name] == value }})
		default:
			return nil, fmt.Errorf("no check is called %q", key)
		}
	}
	return w, nil
}

// compare says how results differ from what is wanted.
func (w *wanted) compare(results []actor.Result) error {
	outcomes, by := map[string]int{}, map[string]int{}
	for i := range results {
		r := &results[i]
		outcomes[r.Outcome]++
		by[r.By]++
		if w.outcome != "" && r.Outcome != w.outcome {
			continue // is told in sum below
		}
		for _, c := range w.checks {
			if !c.ok(r) {
				return fmt.Errorf("not %s: %+v", c.text, *r)
			}
		}
		if w.max > 0 && r.Took > w.max || r.Took < w.min {
			return fmt.Errorf("it took %s: %+v", r.Took, *r)
		}
	}
	if w.outcome != "" && outcomes[w.outcome] != len(results) {
		if len(results) == 1 {
			return fmt.Errorf("got %+v", results[0])
		}
		for _, r := range results {
			if r.Outcome != w.outcome {
				return fmt.Errorf("got %v, one of them %+v", outcomes, r)
			}
		}
	}
	for name, n := range w.mixed {
		if !n.holds(float64(outcomes[name])) {
			return fmt.Errorf("got %v", outcomes)
		}
	}
	if w.mixed != nil {
		for name := range outcomes {
			if _, ok := w.mixed[name]; !ok {
				return fmt.Errorf("got %v", outcomes)
			}
		}
	}
	for name, n := range w.share {
		if !n.holds(float64(by[name])) {
			return fmt.Errorf("answered by %v", by)
		}
	}
	delete(by, "") // nobody
	if !w.servers.holds(float64(len(by))) {
		return fmt.Errorf("answered by %v", by)
	}
	for i := w.cycle; w.cycle > 0 && i < len(results); i++ {
		if a, b := results[i-w.cycle].By, results[i].By; a != b {
			return fmt.Errorf("the results %d and %d are by %s and %s", i-w.cycle+1, i+1, a, b)
		}
	}
	return nil
}

// parseSays is of
//
//	says NAME -> OUTCOME [CHECKS]
//	flowed NAME -> OUTCOME [CHECKS]
func parseSays(verb string, words []string) (func(*performance) error, error) {
	left, right, err := cut(words)
	if err != nil {
		return nil, err
	}
	want, err := parseWanted(right)
	if err != nil || len(left) != 1 {
		return nil, fmt.Errorf("want NAME -> OUTCOME: %v", err)
	}
	if verb == "flowed" {
		return func(p *performance) error { return p.flowed(left[0], want) }, nil
	}
	return func(p *performance) error { return p.says(left[0], want) }, nil
}

// parseCLI is of
//
//	cli WORD… -> REGEXP
func parseCLI(words []string) (func(*performance) error, error) {
	left, right, err := cut(words)
	if err != nil || len(right) != 1 {
		return nil, fmt.Errorf("want WORD… -> REGEXP: %v", err)
	}
	re, err := regexp.Compile(right[0])
	if err != nil {
		return nil, err
	}
	return func(p *performance) error { return p.cli(strings.Join(left, " "), re) }, nil
}

// parseStatus is of
//
//	status KIND/NAME [PARENT] -> TYPE=STATUS[/REASON]…
func parseStatus(words []string) (func(*performance) error, error) {
	left, right, err := cut(words)
	if err != nil {
		return nil, err
	}
	parent := ""
	if len(left) == 2 {
		parent = left[1]
	}
	for _, c := range right {
		if !strings.Contains(c, "=") {
			return nil, fmt.Errorf("condition %q is not TYPE=STATUS[/REASON]", c)
		}
	}
	return func(p *performance) error { return p.status(left[0], parent, right) }, nil
}

// parseMood is of
//
//	mood SERVER good
//	mood SERVER [http=503] [grpc=Unavailable] [retry-after=N]
func parseMood(words []string) (func(*performance) error, error) {
	if len(words) < 2 {
		return nil, fmt.Errorf("want SERVER MOOD")
	}
	var m actor.Mood
	for _, o := range words[1:] {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "good":
		case "http":
			m.HTTP, err = strconv.Atoi(value)
		case "grpc":
			m.GRPC = value
		case "retry-after":
			m.RetryAfter = value
		default:
			err = fmt.Errorf("no mood is called %q", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return func(p *performance) error { return p.be(words[0], m) }, nil
}

// parseMetric is of
//
//	metric ACTOR NAME LABEL=VALUE… +SPAN     growth since the scene began
//	metric ACTOR NAME LABEL=VALUE… =SPAN     value
func parseMetric(words []string) (func(*performance) error, error) {
	if len(words) < 3 {
		return nil, fmt.Errorf("want ACTOR NAME [LABEL=VALUE…] +SPAN or =SPAN")
	}
	who, name, labels, bound := words[0], words[1], words[2:len(words)-1], words[len(words)-1]
	if bound[0] != '+' && bound[0] != '=' {
		return nil, fmt.Errorf("the last word is neither +SPAN nor =SPAN")
	}
	n, err := parseSpan(bound[1:])
	if err != nil {
		return nil, err
	}
	var pairs []string
	for _, l := range labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return nil, fmt.Errorf("label %q has no value", l)
		}
		pairs = append(pairs, k, v)
	}
	return func(p *performance) error { return p.metric(who, name, pairs, bound[0] == '+', n) }, nil
}

// scenes are all files, in order of their names.
func scenes(t *testing.T) []*scene {
	t.Helper()
	var files []string
	for _, pattern := range []string{"testdata/policy/*.txtar", "testdata/policy/alone/*.txtar"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no scenes %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	var out []*scene
	for _, f := range files {
		s, err := readScene(f, strings.NewReplacer("${NS}", "near", "${FAR}", "far", "${OUTSIDE}", "198.51.100.1"))
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, s)
	}
	return out
}

// TestScenesAreWellFormed needs no cluster.
func TestScenesAreWellFormed(t *testing.T) {
	for _, s := range scenes(t) {
		used := map[string]bool{}
		for _, st := range s.steps {
			words, _ := splitWords(st.text)
			for _, w := range words {
				used[w] = true
			}
		}
		for f, text := range s.files {
			if !used[f] {
				t.Errorf("%s: no step uses %s", s.name, f)
			}
			if _, err := objects(text); err != nil {
				t.Errorf("%s: %s: %v", s.name, f, err)
			}
		}
	}
}

func TestWanted(t *testing.T) {
	ok := func(n int, outcome, by string) []actor.Result {
		var out []actor.Result
		for range n {
			out = append(out, actor.Result{Outcome: outcome, By: by})
		}
		return out
	}
	for _, tt := range []struct {
		want    string
		results []actor.Result
		differs bool
	}{
		{"200", ok(3, "200", "web"), false},
		{"200", append(ok(3, "200", "web"), ok(1, "503", "")...), true},
		{"200 by=web", ok(1, "200", "other"), true},
		{"200:1..,429:2..5", append(ok(3, "200", "web"), ok(2, "429", "")...), false},
		{"200:1..,429:3..5", append(ok(3, "200", "web"), ok(2, "429", "")...), true},
		{"200:1..", append(ok(3, "200", "web"), ok(2, "429", "")...), true},
		{"200 share=web:2..4,other:1", append(ok(3, "200", "web"), ok(1, "200", "other")...), false},
		{"200 share=web:2..4,other:0", append(ok(3, "200", "web"), ok(1, "200", "other")...), true},
		{"200 servers=1", ok(3, "200", "web"), false},
		{"200 servers=1", append(ok(3, "200", "web"), ok(1, "200", "other")...), true},
		{"200 cycle=2", append(append(ok(1, "200", "web"), ok(1, "200", "other")...), ok(1, "200", "web")...), false},
		{"200 cycle=1", append(ok(3, "200", "web"), ok(1, "200", "other")...), true},
		{"200:1..,503:1.. servers=1", append(ok(3, "200", "web"), ok(1, "503", "")...), false},
		{"200 took<1s", []actor.Result{{Outcome: "200", Took: 2 * time.Second}}, true},
		{`403 error="unauthorized request"`, []actor.Result{{Outcome: "403", Header: map[string]string{"l5d-proxy-error": "unauthorized request on route"}}}, false},
	} {
		words, err := splitWords(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		w, err := parseWanted(words)
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		if err := w.compare(tt.results); (err != nil) != tt.differs {
			t.Errorf("%s, got %v: %v", tt.want, tt.results, err)
		}
	}
}
