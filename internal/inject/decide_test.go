package inject

import (
	"os"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// TestDecide goes through testdata/decide.txt, which explains its columns.
func TestDecide(t *testing.T) {
	for number, fields := range tableRows(t, "testdata/decide.txt") {
		if len(fields) != 6 {
			t.Fatalf("line %d has %d columns, want 6", number, len(fields))
		}
		for i := range fields {
			if fields[i] == "-" {
				fields[i] = ""
			}
		}
		facts := Facts{HasPod: true, Namespace: fields[2], Workload: fields[3]}
		if fields[0] == "cli" {
			facts.Origin = CLI
		}
		for _, what := range strings.Split(fields[1], "+") {
			switch what {
			case "plain":
			case "host-network":
				facts.HostNetwork = true
			case "sidecar":
				facts.Sidecar = true
			case "udp":
				facts.UDP = true
			case "no-token":
				facts.NoToken = true
			case "none":
				facts.HasPod = false
			default:
				t.Fatalf("line %d: what is %q?", number, what)
			}
		}
		d := Decide(facts)
		if d.Identifiers() != fields[4] || d.AnnotationAt != fields[5] {
			t.Errorf("line %d: got %q at %q, want %q at %q", number, d.Identifiers(), d.AnnotationAt, fields[4], fields[5])
		}
		if d.Injectable() != (fields[4] == "") {
			t.Errorf("line %d: Injectable is %v", number, d.Injectable())
		}
		for _, r := range d.Reasons {
			if r.Text() == "" {
				t.Errorf("line %d: reason %s has no text for people", number, r)
			}
		}
	}
}

// tableRows returns the columns of a table's lines, by line number.
func tableRows(t *testing.T, path string) map[int][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[int][]string{}
	for i, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(line, "#") {
			rows[i+1] = fields
		}
	}
	return rows
}

func mustParse(t *testing.T, object string) *Object {
	t.Helper()
	o, err := Parse([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFacts(t *testing.T) {
	noProjection := map[string]any{"identity": map[string]any{"serviceAccountTokenProjection": false}}
	ours := map[string]any{"proxy": map[string]any{"image": map[string]any{"name": "registry.example/mesh"}}}
	const mount = `"volumeMounts":[{"name":"x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]`
	for name, c := range map[string]struct {
		spec   string
		values map[string]any
		origin Origin
		want   Facts
	}{
		"plain":                     {spec: `{"containers":[{"name":"web"}]}`},
		"host network":              {spec: `{"hostNetwork":true}`, want: Facts{HostNetwork: true}},
		"proxy by name":             {spec: `{"containers":[{"name":"linkerd-proxy"}]}`, want: Facts{Sidecar: true}},
		"native proxy by name":      {spec: `{"initContainers":[{"name":"linkerd-proxy"}]}`, want: Facts{Sidecar: true}},
		"other mesh by name":        {spec: `{"containers":[{"name":"web"},{"name":"istio-proxy"}]}`, want: Facts{Sidecar: true}},
		"init by name":              {spec: `{"initContainers":[{"name":"linkerd-init"}]}`, want: Facts{Sidecar: true}},
		"other mesh's init":         {spec: `{"initContainers":[{"name":"istio-init"}]}`, want: Facts{Sidecar: true}},
		"init's name, no init":      {spec: `{"containers":[{"name":"linkerd-init"}]}`},
		"proxy by image":            {spec: `{"containers":[{"name":"x","image":"cr.l5d.io/linkerd/proxy:v1"}]}`, want: Facts{Sidecar: true}},
		"other mesh by image":       {spec: `{"containers":[{"name":"x","image":"gcr.io/istio-release/proxyv2:1"}]}`, want: Facts{Sidecar: true}},
		"init by image":             {spec: `{"initContainers":[{"name":"x","image":"cr.l5d.io/linkerd/proxy-init:v1"}]}`, want: Facts{Sidecar: true}},
		"other mesh's init image":   {spec: `{"initContainers":[{"name":"x","image":"gcr.io/istio-release/proxy_init:1"}]}`, want: Facts{Sidecar: true}},
		"init's image, no init":     {spec: `{"containers":[{"name":"x","image":"cr.l5d.io/linkerd/proxy-init:v1"}]}`},
		"our own image":             {spec: `{"containers":[{"name":"x","image":"registry.example/mesh:v1"}]}`, values: ours, want: Facts{Sidecar: true}},
		"an image beside ours":      {spec: `{"containers":[{"name":"x","image":"registry.example/mesh-viewer:v1"}]}`, values: ours},
		"UDP":                       {spec: `{"containers":[{"name":"x","ports":[{"containerPort":53,"protocol":"UDP"}]}]}`, want: Facts{UDP: true}},
		"UDP of an init container":  {spec: `{"initContainers":[{"name":"x","ports":[{"containerPort":53,"protocol":"UDP"}]}]}`},
		"no automount, projection":  {spec: `{"automountServiceAccountToken":false}`},
		"no automount":              {spec: `{"automountServiceAccountToken":false,"containers":[{"name":"x",` + mount + `}]}`, values: noProjection, want: Facts{NoToken: true}},
		"mounted":                   {spec: `{"containers":[{"name":"x",` + mount + `}]}`, values: noProjection},
		"not mounted":               {spec: `{"containers":[{"name":"x"}]}`, values: noProjection, want: Facts{NoToken: true}},
		"not mounted yet":           {spec: `{"containers":[{"name":"x"}]}`, values: noProjection, origin: CLI},
		"mounted in another":        {spec: `{"containers":[{"name":"x"},{"name":"y",` + mount + `}]}`, values: noProjection, want: Facts{NoToken: true}},
		"no automount in the CLI":   {spec: `{"automountServiceAccountToken":false}`, values: noProjection, origin: CLI, want: Facts{NoToken: true}},
		"automount asked for":       {spec: `{"automountServiceAccountToken":true,"containers":[{"name":"x",` + mount + `}]}`, values: noProjection},
		"istio's image, other path": {spec: `{"containers":[{"name":"x","image":"mirror.example/istio-release/proxyv2:1"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.HasPod, c.want.Origin, c.want.Namespace = true, c.origin, "enabled"
			o := mustParse(t, `{"apiVersion":"v1","kind":"Pod","spec":`+c.spec+`}`)
			got := o.Facts(c.origin, c.values, map[string]string{names.AnnotationInject: "enabled"})
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestParseKnowsKindsByGroup(t *testing.T) {
	for object, want := range map[string]struct {
		known, pod bool
		prefix     string
	}{
		`{"apiVersion":"v1","kind":"Pod","spec":{}}`:                                                               {true, true, ""},
		`{"apiVersion":"v1","kind":"Pod"}`:                                                                         {true, false, ""},
		`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"spec":{}}}}`:                             {true, true, "/spec/template"},
		`{"apiVersion":"extensions/v1beta1","kind":"Deployment","spec":{"template":{"spec":{}}}}`:                  {true, true, "/spec/template"},
		`{"apiVersion":"apps/v1","kind":"Deployment","spec":{}}`:                                                   {true, false, ""},
		`{"apiVersion":"batch/v1beta1","kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"spec":{}}}}}}`: {true, true, "/spec/jobTemplate/spec/template"},
		`{"kind":"StatefulSet","spec":{"template":{"spec":{}}}}`:                                                   {true, true, "/spec/template"},
		`{"apiVersion":"serving.knative.dev/v1","kind":"Service","spec":{"template":{}}}`:                          {false, false, ""},
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":"of no interest"}`:                                       {false, false, ""},
		`{"kind":"Argo","spec":7}`:                                                                                 {false, false, ""},
		`{}`:                                                                                                       {false, false, ""},
	} {
		o := mustParse(t, object)
		if o.Known != want.known || (o.Pod != nil) != want.pod || o.Pod != nil && o.Pod.Prefix != want.prefix {
			t.Errorf("%s: got %+v", object, o)
		}
	}
	for _, object := range []string{`[]`, `7`, `{`, `{"kind":"Pod","metadata":7}`, `{"apiVersion":"v1","kind":"Pod","spec":{"containers":{}}}`} {
		if o, err := Parse([]byte(object)); err == nil {
			t.Errorf("%s: no error, got %+v", object, o)
		}
	}
}
