package integration

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
)

// TestMain compares what all tests of the package have exported with the list of
// metric families, and looks for goroutines that are left.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		whole := flag.Lookup("test.run").Value.String() == "" && !testing.Short()
		if problems := exported.check(whole); len(problems) > 0 {
			fmt.Println("metrics differ from testdata/metrics.txt:\n" + strings.Join(problems, "\n"))
			code = 1
		}
		if err := leaks.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// exported is what the proxies of all tests have exported.
var exported = exposition{families: map[string]string{}, series: map[string]map[string]string{}}

// exposition collects the shapes of series.
type exposition struct {
	mu sync.Mutex
	// The following are guarded by mu. families have their types by name,
	// series an example by family and by label names, with the values of
	// those labels that tell series of a family apart.
	families map[string]string
	series   map[string]map[string]string
}

var (
	sampleLine = regexp.MustCompile(`^([a-z0-9_]+)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`([a-z0-9_A-Z]+)="((?:[^"\\]|\\.)*)"`)
)

// add takes what a registry exports.
func (e *exposition) add(families []metric.Description, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range families {
		e.families[f.Name] = shape(f)
	}
	for line := range strings.Lines(text) {
		m := sampleLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base := strings.TrimSuffix(name, suffix); base != name && strings.HasPrefix(e.families[base], "histogram") {
				name = base
			}
		}
		var labels strings.Builder
		for _, p := range labelPair.FindAllStringSubmatch(m[2], -1) {
			switch p[1] {
			case "le":
			case "direction", "peer", "tls", "no_tls_reason":
				labels.WriteString(p[1] + "=" + p[2] + ",")
			default:
				labels.WriteString(p[1] + ",")
			}
		}
		if e.series[name] == nil {
			e.series[name] = map[string]string{}
		}
		e.series[name][labels.String()] = strings.TrimSpace(line)
	}
}

// shape is a family's type as the list has it.
func shape(f metric.Description) string {
	if f.Kind != metric.HistogramKind {
		return f.Kind.String()
	}
	var bounds []string
	for _, b := range f.Bounds {
		bounds = append(bounds, strconv.FormatFloat(b, 'f', -1, 64))
	}
	return "histogram[" + strings.Join(bounds, ",") + "]"
}

// groups are the chapter's groups of labels.
var groups = map[string]string{
	"TARGET":   "target_addr,target_ip,target_port,",
	"TLS-IN":   "(?:tls=true,client_id,|tls=no_identity,no_tls_reason=[a-z_]+,|tls=opaque,sni,|tls=disabled,)",
	"TLS-OUT":  "(?:tls=true,server_id,|tls=no_identity,no_tls_reason=[a-z_]+,|tls=disabled,)",
	"SRV":      "srv_group,srv_kind,srv_name,srv_port,",
	"ROUTE":    "route_group,route_kind,route_name,",
	"AUTHZ":    "authz_group,authz_kind,authz_name,",
	"DST":      "(?:dst_[a-z_0-9]+,)*",
	"RT":       "(?:rt_[a-z_0-9]+,)*",
	"PARENT":   "parent_group,parent_kind,parent_namespace,parent_name,parent_port,parent_section_name,",
	"ROUTEREF": "route_group,route_kind,route_namespace,route_name,",
	"BACKEND":  "backend_group,backend_kind,backend_namespace,backend_name,backend_port,backend_section_name,",
}

// pattern makes a regular expression of a line's labels.
func pattern(words []string) string {
	p := "^"
	for _, w := range words {
		optional, isOptional := strings.CutPrefix(w, "[")
		switch {
		case groups[w] != "":
			p += groups[w]
		case isOptional:
			p += "(?:" + strings.TrimSuffix(optional, "]") + ",)?"
		case w == "direction":
			p += "direction=(?:in|out)bound,"
		default:
			p += w + ","
		}
	}
	return p + "$"
}

// check compares with the list. Unless the whole package has run, series that are
// missing mean nothing.
func (e *exposition) check(whole bool) (problems []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		return []string{err.Error()}
	}
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	patterns, listed := map[string][]*regexp.Regexp{}, map[string]string{}
	unseen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line)
		switch {
		case len(w) == 0 || w[0] == "#":
			continue
		case w[0] == "missing":
			if _, ok := e.families[w[1]]; ok {
				complain("%s is there, though listed as missing", w[1])
			}
			continue
		case w[0] == "unseen":
			unseen[w[1]] = true
			w = w[1:]
		}
		listed[w[0]] = w[1]
		patterns[w[0]] = append(patterns[w[0]], regexp.MustCompile(pattern(w[2:])))
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		switch got, ok := e.families[name]; {
		case !ok && whole:
			complain("%s is not there", name)
		case ok && got != listed[name]:
			complain("%s is a %s, not a %s", name, got, listed[name])
		}
		if whole && len(e.series[name]) == 0 && !unseen[name] {
			complain("no test has a series of %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.families)) {
		if listed[name] == "" {
			complain("%s is not in the list", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.series)) {
		for _, labels := range slices.Sorted(maps.Keys(e.series[name])) {
			if !slices.ContainsFunc(patterns[name], func(p *regexp.Regexp) bool { return p.MatchString(labels) }) {
				complain("labels of %s", e.series[name][labels])
			}
		}
	}
	return problems
}
