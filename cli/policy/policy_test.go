package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// sidecar is the part of a pod's manifest that every meshed pod has.
const sidecar = `
  initContainers:
  - name: linkerd-proxy
    ports: [{name: linkerd-proxy, containerPort: 4143}, {name: linkerd-admin, containerPort: 4191}]
    env:
    - {name: LINKERD2_PROXY_CONTROL_LISTEN_ADDR, value: "0.0.0.0:4190"}
    - {name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME, value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local}
`

// TestGenerate runs the command of each file in testdata on the cluster and the
// metrics that the file has. `go test ./cli/policy -update` writes down what is
// printed; to add a case, add a file with these parts and do that:
//
//	-- args --            the command line
//	-- objects --         what the cluster has; SIDECAR in a pod's spec is its proxy, AGE the time that its proxy runs
//	-- metrics/POD --     what the proxy of a pod of namespace shop says; `start SECONDS` stands for how long it has run
//	-- out --             standard output
//	-- err --             standard error, and the error
func TestGenerate(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) (got []txtar.File) {
		var args, objects string
		metrics := map[string]string{}
		for _, part := range parts {
			text := string(part.Data)
			pod, isMetrics := strings.CutPrefix(part.Name, "metrics/")
			switch {
			case part.Name == "args":
				args = strings.TrimSpace(text)
			case part.Name == "objects":
				objects = strings.ReplaceAll(text, "  SIDECAR\n", sidecar[1:])
			case isMetrics:
				metrics[pod] = expand(t, text)
			case part.Name == "out", part.Name == "err":
				continue
			default:
				t.Fatalf("unknown part %q", part.Name)
			}
			got = append(got, part)
		}
		out, errs := run(t, args, objects, metrics)
		return append(got, txtar.File{Name: "out", Data: []byte(out)}, txtar.File{Name: "err", Data: []byte(errs)})
	})
}

// expand puts in when a proxy began to count.
func expand(t *testing.T, text string) string {
	first, rest, _ := strings.Cut(text, "\n")
	var seconds int64
	if _, err := fmt.Sscanf(first, "start %d", &seconds); err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	return fmt.Sprintf("process_start_time_seconds %d\n%s", commandtest.Start.Unix()-seconds, rest)
}

func run(t *testing.T, args, objects string, metrics map[string]string) (out, errs string) {
	list := commandtest.Objects(t, []byte(objects))
	for _, o := range list {
		if pod, ok := o.(*corev1.Pod); ok {
			pod.Status.Phase = corev1.PodRunning
		}
	}
	r := commandtest.New(t, commandtest.Cluster(t, list...))
	for pod, text := range metrics {
		r.Ports[commandtest.Address("shop", pod, 4191)] = commandtest.Metrics(text)
	}
	cmd := New(r.World, &command.Globals{Namespace: "linkerd"})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(strings.Fields(args))
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(r.Err, err)
	}
	return r.Out.String(), r.Err.String()
}
