package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/inject"
	"github.com/linkerd-go/linkerd-go/internal/valueschema"
)

// fixedChart has the values in testdata/values.yaml.
type fixedChart struct{ values string }

func (c fixedChart) Defaults() (map[string]any, error) {
	values := map[string]any{}
	return values, yaml.Unmarshal([]byte(c.values), &values)
}

func (fixedChart) HighAvailability() (map[string]any, error) { return nil, errors.New("not here") }

func (fixedChart) Mentions(string) bool { return true }

func (fixedChart) Misfits(map[string]any) ([]valueschema.Misfit, error) { return nil, nil }

func (fixedChart) Render(string, map[string]any, ...string) ([]byte, error) {
	return nil, errors.New("not here")
}

// roundTripper answers requests for URLs.
type roundTripper map[string]string

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	response := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Body: io.NopCloser(strings.NewReader(r[request.URL.String()])), Request: request}
	if _, ok := r[request.URL.String()]; !ok {
		response.StatusCode, response.Status = http.StatusNotFound, "404 Not Found"
	}
	return response, nil
}

// TestCommands runs what testdata/*.txtar say. A case has the files
//
//	args              the command line, separated by blanks
//	stdin             standard input
//	in/...            input files; the command runs beside them
//	config.yaml       values of the installation; without it there is none
//	trust-roots.pem   its trust anchors, when they are not among the values
//	unreachable       the cluster does not answer
//	url               the answer of https://example.org/web.yaml
//	stdout, stderr    what is printed
//	error             what the command fails with besides
//
// With --manual the proxy is a container of a name and an image, and no more: the real one is tested where the chart is.
func TestCommands(t *testing.T) {
	defaults, err := os.ReadFile("testdata/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		files := map[string]string{}
		dir := t.TempDir()
		for _, f := range parts {
			files[f.Name] = string(f.Data)
			if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
				name = filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, f.Data, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := runCase(t, dir, files, string(defaults))
		for _, name := range outputs {
			parts = golden.With(parts, name, got[name])
		}
		return parts
	})
}

var outputs = []string{"stdout", "stderr", "error"}

// runCase runs a command line in dir and returns its outputs.
func runCase(t *testing.T, dir string, files map[string]string, defaults string) map[string]string {
	t.Helper()
	t.Chdir(dir)
	t.Setenv("LINKERD_CONTAINER_VERSION_OVERRIDE", "v1")
	var stdout, stderr bytes.Buffer
	w := &command.World{
		In: strings.NewReader(files["stdin"]), Out: &stdout, Err: &stderr,
		Getenv:   func(string) string { return "" },
		ReadFile: os.ReadFile,
		HTTP:     &http.Client{Transport: roundTripper{}},
		Connect: func(cluster.Options) (*cluster.Cluster, error) {
			if _, ok := files["unreachable"]; ok {
				return nil, errors.New("nobody there")
			}
			var objects []runtime.Object
			add := func(file, name, key string) {
				if text, ok := files[file]; ok {
					objects = append(objects, &corev1.ConfigMap{
						ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: name}, Data: map[string]string{key: text},
					})
				}
			}
			add("config.yaml", controlplane.ConfigMapName, controlplane.ConfigMapKey)
			add("trust-roots.pem", controlplane.TrustRootsName, controlplane.TrustRootsKey)
			return &cluster.Cluster{Kube: fake.NewClientset(objects...)}, nil
		},
	}
	if page, ok := files["url"]; ok {
		w.HTTP.Transport = roundTripper{"https://example.org/web.yaml": page}
	}
	g := &command.Globals{}
	root := &cobra.Command{Use: "linkerd", SilenceErrors: true, SilenceUsage: true}
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	g.Register(root)
	root.AddCommand(NewUninject(w, g), New(w, g, Parts{
		Values: func() (controlplane.Chart, error) { return fixedChart{defaults}, nil },
		Renderer: func(namespace string) (inject.Renderer, error) {
			return func(values map[string]any) ([]byte, error) {
				patch := values["patch"].(map[string]any)
				proxy := values["proxy"].(map[string]any)
				return fmt.Appendf(nil, `[{"op":"add","path":"%s/spec/containers/-","value":{"name":"linkerd-proxy","image":"%v:%v of %s"}}]`,
					patch["prefix"], proxy["image"].(map[string]any)["name"], values["linkerdVersion"], namespace), nil
			}, nil
		},
	}))
	root.SetArgs(strings.Fields(files["args"]))
	failed := ""
	if err := root.ExecuteContext(context.Background()); err != nil {
		failed = fmt.Sprintf("exit 1 %s", err)
	}
	return map[string]string{"stdout": stdout.String(), "stderr": stderr.String(), "error": failed}
}
