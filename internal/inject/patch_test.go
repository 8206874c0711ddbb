package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

func TestAnnotateMakesWhatIsMissing(t *testing.T) {
	for object, want := range map[string]string{
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`:                                                    `/metadata/annotations /metadata/annotations/a~1~0b`,
		`{"apiVersion":"v1","kind":"Namespace"}`:                                                                            `/metadata /metadata/annotations /metadata/annotations/a~1~0b`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"annotations":{}},"spec":{}}`:                                      `/metadata/annotations/a~1~0b`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"annotations":{}},"spec":{"template":{"spec":{}}}}`:        `/spec/template/metadata /spec/template/metadata/annotations /spec/template/metadata/annotations/a~1~0b`,
		`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"metadata":{"annotations":{"x":"y"}},"spec":{}}}}`: `/spec/template/metadata/annotations/a~1~0b`,
	} {
		var paths []string
		for _, op := range mustParse(t, object).Annotate(map[string]string{"a/~b": ""}) {
			if op.Op != "add" {
				t.Errorf("%s: op is %s", object, op.Op)
			}
			paths = append(paths, op.Path)
		}
		if got := strings.Join(paths, " "); got != want {
			t.Errorf("%s: got %s, want %s", object, got, want)
		}
	}
}

// TestEmptyValuesAreWritten: an annotation may be empty, and an operation without a value is no operation.
func TestEmptyValuesAreWritten(t *testing.T) {
	data, err := mustParse(t, `{"kind":"Namespace","metadata":{"annotations":{}}}`).Annotate(map[string]string{"a": ""}).JSON()
	if want := `[{"op":"add","path":"/metadata/annotations/a","value":""}]`; err != nil || string(data) != want {
		t.Errorf("got %s, %v, want %s", data, err, want)
	}
}

func injection(object *Object) Injection {
	return Injection{
		Object:                object,
		Namespace:             "shop",
		Owner:                 Owner{Kind: KindDeployment, Name: "web"},
		ControlPlaneNamespace: "linkerd",
		CreatedBy:             "test",
		Values:                map[string]any{"identityTrustAnchorsPEM": "anchors", "linkerdVersion": "v1"},
	}
}

func TestInjectionAsksTheChartForTheRightPlace(t *testing.T) {
	for object, want := range map[string]string{
		`{"kind":"Pod","spec":{}}`: `prefix= addVolumes=true addInitContainers=true ends=false component=<nil>`,
		`{"kind":"Pod","spec":{"volumes":[{"name":"v"}],"initContainers":[{"name":"i"}]}}`:                 `prefix= addVolumes=false addInitContainers=false ends=false component=<nil>`,
		`{"kind":"Pod","spec":{"restartPolicy":"Always"}}`:                                                 `prefix= addVolumes=true addInitContainers=true ends=false component=<nil>`,
		`{"kind":"Pod","spec":{"restartPolicy":"Never"}}`:                                                  `prefix= addVolumes=true addInitContainers=true ends=true component=<nil>`,
		`{"kind":"Pod","spec":{"restartPolicy":"OnFailure"}}`:                                              `prefix= addVolumes=true addInitContainers=true ends=true component=<nil>`,
		`{"kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"spec":{}}}}}}`:                      `prefix=/spec/jobTemplate/spec/template addVolumes=true addInitContainers=true ends=false component=<nil>`,
		`{"kind":"Pod","metadata":{"labels":{"linkerd.io/control-plane-component":"identity"}},"spec":{}}`: `prefix= addVolumes=true addInitContainers=true ends=false component=web`,
	} {
		var got string
		_, err := injection(mustParse(t, object)).Patch(func(values map[string]any) ([]byte, error) {
			got = fmt.Sprintf("prefix=%v addVolumes=%v addInitContainers=%v ends=%v component=%v",
				valuetree.Get(values, "patch.prefix"), valuetree.Get(values, "patch.addVolumes"), valuetree.Get(values, "patch.addInitContainers"),
				valuetree.Get(values, "patch.ends"), valuetree.Get(values, "proxy.component"))
			return []byte(`[]`), nil
		})
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", object, got, err, want)
		}
	}
}

func TestInjectionFailsRatherThanInjectRubbish(t *testing.T) {
	pod := mustParse(t, `{"kind":"Pod","spec":{}}`)
	broken := errors.New("template is broken")
	for name, c := range map[string]struct {
		change func(*Injection)
		render Renderer
		want   string
	}{
		"renderer fails": {render: func(map[string]any) ([]byte, error) { return nil, broken }, want: "template is broken"},
		"no JSON":        {render: func(map[string]any) ([]byte, error) { return []byte("foo: bar"), nil }, want: "not a JSON patch"},
		"YAML in it fails": {render: func(map[string]any) ([]byte, error) {
			return []byte(`[{"op":"add","path":"/x","value":{"Error":"yaml: line 3"}}]`), nil
		}, want: "yaml: line 3"},
		"no trust anchors": {change: func(i *Injection) { i.Values = map[string]any{"identityTrustAnchorsPEM": "\n"} }, want: "trust anchors"},
		"cluster networks": {change: func(i *Injection) {
			i.Values = map[string]any{"identityTrustAnchorsPEM": "a", "clusterNetworks": "10.0.0.0/8,x"}
		}, want: `clusterNetworks: cannot parse "x"`},
	} {
		i := injection(pod)
		if c.change != nil {
			c.change(&i)
		}
		if c.render == nil {
			c.render = func(map[string]any) ([]byte, error) { return []byte(`[]`), nil }
		}
		if _, err := i.Patch(c.render); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want it to say %q", name, err, c.want)
		}
	}
}

// TestLongOwnerNameIsNoLabel: a pod whose label is too long would be refused, a pod without it only lacks it.
func TestLongOwnerNameIsNoLabel(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		owner Owner
		want  string
	}{
		{Owner{KindDeployment, "web"}, "linkerd.io/proxy-deployment"},
		{Owner{KindDeployment, long}, ""},
		{Owner{KindPod, "web"}, ""},
		{Owner{"rollout", "web"}, ""},
		{Owner{KindCronJob, "web"}, "linkerd.io/proxy-cronjob"},
	} {
		labels := podLabels("linkerd", "shop", c.owner)
		got := ""
		for key := range labels {
			if strings.HasPrefix(key, names.LabelProxyOwnerPrefix) {
				got = key
			}
		}
		if got != c.want || labels[names.LabelControlPlaneNS] != "linkerd" || labels[names.LabelWorkloadNS] != "shop" {
			t.Errorf("%+v: labels are %v", c.owner, labels)
		}
	}
}

func TestOpaquePorts(t *testing.T) {
	values := map[string]any{"proxy": map[string]any{"opaquePorts": "25,3306,9000-9010"}}
	for _, c := range []struct {
		name, object string
		namespace    map[string]string
		want         string
		ok           bool
	}{
		{name: "Service with numeric target", object: `{"kind":"Service","spec":{"ports":[{"port":80,"targetPort":3306},{"port":25,"targetPort":8025}]}}`, want: "80", ok: true},
		{name: "Service without target", object: `{"kind":"Service","spec":{"ports":[{"port":25},{"port":9005}]}}`, want: "25,9005", ok: true},
		{name: "Service with named target", object: `{"kind":"Service","spec":{"ports":[{"port":3306,"targetPort":"mysql"}]}}`},
		{name: "Service without any", object: `{"kind":"Service","spec":{"ports":[{"port":80}]}}`},
		{name: "ExternalName Service", object: `{"kind":"Service","spec":{"externalName":"example.org"}}`},
		{name: "Service in a namespace with a list", object: `{"kind":"Service","spec":{"ports":[{"port":80}]}}`, namespace: map[string]string{names.AnnotationOpaquePorts: "1"}, want: "1", ok: true},
		{name: "Service in a namespace with an empty list", object: `{"kind":"Service","spec":{"ports":[{"port":25}]}}`, namespace: map[string]string{names.AnnotationOpaquePorts: ""}, ok: true},
		{name: "Service with its own", object: `{"kind":"Service","metadata":{"annotations":{"config.linkerd.io/opaque-ports":""}},"spec":{"ports":[{"port":25}]}}`},
		{name: "pod", object: `{"kind":"Pod","spec":{"initContainers":[{"ports":[{"containerPort":25}]}],"containers":[{"ports":[{"containerPort":3306},{"containerPort":25},{"containerPort":80}]}]}}`, want: "25,3306", ok: true},
		{name: "pod without any", object: `{"kind":"Pod","spec":{"containers":[{"ports":[{"containerPort":80}]}]}}`},
		{name: "namespace", object: `{"kind":"Namespace","spec":{}}`},
	} {
		got, ok := mustParse(t, c.object).OpaquePorts(values, c.namespace)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestInboundPorts(t *testing.T) {
	for spec, want := range map[string]string{
		`{}`: "",
		`{"containers":[{"ports":[{"containerPort":9090},{"containerPort":80},{"containerPort":80}]}]}`:                                           "80,9090",
		`{"containers":[{"ports":[{"containerPort":53,"protocol":"UDP"},{"containerPort":53,"protocol":"TCP"}]}]}`:                                "53",
		`{"containers":[{"ports":[{"containerPort":53,"protocol":"UDP"}]}]}`:                                                                      "",
		`{"initContainers":[{"ports":[{"containerPort":7}]}],"containers":[{"livenessProbe":{"httpGet":{"port":8}}}]}`:                            "7,8",
		`{"containers":[{"startupProbe":{"httpGet":{"port":1}},"readinessProbe":{"httpGet":{"port":2}},"livenessProbe":{"httpGet":{"port":3}}}]}`: "1,2,3",
		`{"containers":[{"ports":[{"containerPort":80,"name":"http"}],"livenessProbe":{"httpGet":{"port":"http"}}}]}`:                             "80",
		`{"containers":[{"livenessProbe":{"tcpSocket":{"port":8}},"readinessProbe":{"grpc":{"port":9}}}]}`:                                        "",
	} {
		if got := mustParse(t, `{"kind":"Pod","spec":`+spec+`}`).Pod.inboundPorts(); got != want {
			t.Errorf("%s: got %q, want %q", spec, got, want)
		}
	}
}

// FuzzParse: whatever the API server sends, it is refused or answered, never a crash.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"Pod","metadata":{"annotations":{"linkerd.io/inject":"enabled"}},"spec":{"containers":[{"ports":[{"containerPort":25}]}]}}`,
		`{"kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"spec":{}}}}}}`,
		`{"kind":"Service","spec":{"ports":[{"port":25,"targetPort":"x"}]}}`,
		`{"kind":"Pod","metadata":null,"spec":null}`,
		`{"kind":"Pod","spec":{"containers":[null]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Parse(data)
		if err != nil {
			return
		}
		values := map[string]any{"identityTrustAnchorsPEM": "a", "proxy": map[string]any{"opaquePorts": "25"}}
		Decide(o.Facts(Webhook, values, nil))
		o.OpaquePorts(values, nil)
		if o.Annotatable() {
			o.Annotate(map[string]string{"a": "b"})
		}
		if o.Pod == nil {
			return
		}
		i := injection(o)
		i.Values = values
		result, err := i.Patch(func(map[string]any) ([]byte, error) { return []byte(`[]`), nil })
		if err == nil {
			if _, err := json.Marshal(result.Patch); err != nil {
				t.Errorf("patch of %s: %v", data, err)
			}
		}
	})
}
