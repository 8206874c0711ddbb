package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is what the tests run on, set by TestMain.
var cluster struct {
	kubeconfig string
	config     *rest.Config
	client     kubernetes.Interface
	bin        string // directory of the built programs
	root       string // of the checkout
}

func TestMain(m *testing.M) {
	cluster.kubeconfig = os.Getenv("LINKERD_E2E")
	if cluster.kubeconfig == "" {
		fmt.Println("end-to-end tests need a cluster: `make e2e` starts one")
		os.Exit(m.Run())
	}
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "setting up:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// forPauses are settings of the mesh for a machine that stands still for seconds at
// a time: probes of the kubelet and pings between proxies have a limit beside which
// such a pause is long, and to miss them ends pods and connections.
const forPauses = " --set proxy.livenessProbe.timeoutSeconds=10,proxy.readinessProbe.timeoutSeconds=10,proxy.startupProbe.timeoutSeconds=10" +
	",identity.livenessProbe.timeoutSeconds=10,identity.readinessProbe.timeoutSeconds=10" +
	",destinationController.livenessProbe.timeoutSeconds=10,destinationController.readinessProbe.timeoutSeconds=10" +
	",policyController.livenessProbe.timeoutSeconds=10,policyController.readinessProbe.timeoutSeconds=10" +
	",spValidator.livenessProbe.timeoutSeconds=10,spValidator.readinessProbe.timeoutSeconds=10" +
	",proxyInjector.livenessProbe.timeoutSeconds=10,proxyInjector.readinessProbe.timeoutSeconds=10" +
	",proxy.inbound.server.http2.keepAliveTimeout=20s,proxy.outbound.server.http2.keepAliveTimeout=20s" +
	",destinationController.meshedHttp2ClientProtobuf.keep_alive.timeout.seconds=20"

// setUp installs the mesh as the README says, with those settings.
func setUp() error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	cluster.root, cluster.bin = root, filepath.Join(root, "bin")
	cluster.config, err = clientcmd.BuildConfigFromFlags("", cluster.kubeconfig)
	if err != nil {
		return err
	}
	cluster.config.QPS, cluster.config.Burst = 100, 200
	cluster.client, err = kubernetes.NewForConfig(cluster.config)
	if err != nil {
		return err
	}
	os.Setenv("KUBECONFIG", cluster.kubeconfig)
	os.Setenv("PATH", cluster.bin+":"+os.Getenv("PATH"))
	images, err := filepath.Glob(filepath.Join(root, "out/images/*.tar"))
	if err != nil || len(images) == 0 {
		return fmt.Errorf("no images in out/images (make images): %v", err)
	}
	foreign := os.Getenv("LINKERD_CERTMANAGER")
	if foreign != "" {
		more, err := filepath.Glob(filepath.Join(foreign, "images/*.tar"))
		if err != nil || len(more) == 0 {
			return fmt.Errorf("no images of cert-manager in %s (make certmanager): %v", foreign, err)
		}
		images = append(images, more...)
	}
	if _, err := shell(5*time.Minute, "devcluster load --cluster "+clusterName()+" "+strings.Join(images, " ")); err != nil {
		return err
	}
	if foreign != "" || os.Getenv("LINKERD_CNI") != "" {
		return nil // the credentials, or the plugin, have to be there before the mesh
	}
	if _, err := shell(time.Minute, "kubectl -n linkerd get configmap linkerd-config"); err == nil {
		return nil // a cluster kept from an earlier run
	}
	for _, line := range []string{
		"linkerd check --pre",
		"linkerd install --crds | kubectl apply -f -",
		"linkerd install" + forPauses + " | kubectl apply -f -",
		"linkerd check",
	} {
		out, err := shell(shellLimit, line)
		if err != nil {
			pods, _ := shell(time.Minute, "kubectl -n linkerd get pods -o wide; kubectl -n linkerd get events --sort-by=.lastTimestamp | tail -30")
			return fmt.Errorf("%w\n%s\n%s", err, out, pods)
		}
		fmt.Printf("$ %s\n%s\n", line, out)
	}
	return nil
}

// shell runs a command line with the built programs in front of the PATH and
// returns what it printed, both streams as they came.
func shell(limit time.Duration, line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir = cluster.root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done within %s", limit)
	}
	if err != nil {
		return out.String(), fmt.Errorf("$ %s: %w\n%s", line, err, out.String())
	}
	return out.String(), nil
}

// clusterName is the embedded cluster's name: its kubeconfig lies in a folder
// of that name.
func clusterName() string {
	return filepath.Base(filepath.Dir(cluster.kubeconfig))
}
