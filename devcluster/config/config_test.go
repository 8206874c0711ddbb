package config

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/devcluster/certs"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	testCluster = plan.Cluster{Name: "east", Index: 3, StateBase: "/state", RunBase: "/run/dc"}
	testHost    = Host{
		Self: "/bin/devcluster", Containerd: "/usr/bin/containerd", CNIBin: "/usr/lib/cni", Snapshotter: "overlayfs",
		Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, MTU: 1400,
	}
)

// golden compares got with testdata/name; "go test ./config -update" rewrites the file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func TestFiles(t *testing.T) {
	for _, file := range Files(testCluster, testHost) {
		if !strings.HasPrefix(file.Path, "/state/east/config/") {
			t.Errorf("%s is outside the cluster's configuration", file.Path)
		}
		golden(t, filepath.Base(file.Path)+".golden", file.Data)
	}
}

func TestCommandLines(t *testing.T) {
	var b strings.Builder
	for _, p := range Processes(testCluster, testHost) {
		b.WriteString(strings.Join(p.Argv, " \\\n  "))
		b.WriteString("\n  # health: " + p.Health + "\n\n")
	}
	golden(t, "processes.golden", []byte(b.String()))
}

func TestProcessesAreTheComponentsInOrder(t *testing.T) {
	var names []string
	for _, p := range Processes(testCluster, testHost) {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, Components()) {
		t.Errorf("processes %v, components %v", names, Components())
	}
}

func TestAPIOnlyHasTheAPIServerAndItsStore(t *testing.T) {
	c := testCluster
	c.APIOnly = true
	var names []string
	for _, p := range Processes(c, testHost) {
		names = append(names, p.Name)
	}
	if want := []string{Etcd, APIServer}; !slices.Equal(names, want) {
		t.Errorf("processes %v, want %v", names, want)
	}
}

func TestManifestsAreObjectsAtTheirPaths(t *testing.T) {
	for _, object := range Manifests(testCluster, testHost) {
		var o struct {
			APIVersion string
			Kind       string
			Metadata   struct{ Name, Namespace string }
		}
		if err := json.Unmarshal(object.JSON, &o); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(object.Path, "/"+o.Metadata.Name) {
			t.Errorf("%s holds %s %q", object.Path, o.Kind, o.Metadata.Name)
		}
		if o.Metadata.Namespace != "" && !strings.Contains(object.Path, "/namespaces/"+o.Metadata.Namespace+"/") {
			t.Errorf("%s holds an object of namespace %q", object.Path, o.Metadata.Namespace)
		}
		if !strings.Contains(object.Path, "/"+o.APIVersion+"/") {
			t.Errorf("%s holds an object of %s", object.Path, o.APIVersion)
		}
		if !strings.Contains(object.Path, object.Kind()) {
			t.Errorf("%s is called %s", object.Path, object.Kind())
		}
	}
}

func TestCorefileForwardsOnlyWhereSomeoneListens(t *testing.T) {
	if got := Corefile(testHost.Nameservers); !strings.Contains(got, "forward . /etc/resolv.conf") {
		t.Errorf("no forwarding in:\n%s", got)
	}
	if got := Corefile(nil); strings.Contains(got, "forward") {
		t.Errorf("forwarding without servers in:\n%s", got)
	}
}

func TestNameservers(t *testing.T) {
	for _, test := range []struct {
		name, resolv string
		want         []string
	}{
		{"plain", "search x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n", []string{"192.0.2.1", "192.0.2.2"}},
		{"stub on loopback", "nameserver 127.0.0.53\n", nil},
		{"IPv6 is unreachable from pods", "nameserver 2001:db8::1\nnameserver 192.0.2.1\n", []string{"192.0.2.1"}},
		{"comments and junk", "# nameserver 192.0.2.1\nnameserver\nnameserver example\n; x\n", nil},
		{"empty", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, server := range Nameservers(test.resolv) {
				got = append(got, server.String())
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestKubeconfigsCarryTheirCertificates(t *testing.T) {
	c := testCluster
	c.StateBase = t.TempDir()
	if err := certs.Ensure(c.State("pki"), certs.Names{Node: c.NodeName(), NodeIP: c.NodeIP(), ServiceIP: c.APIServiceIP()}); err != nil {
		t.Fatal(err)
	}
	files, err := Kubeconfigs(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var k struct {
			CurrentContext string `json:"current-context"`
			Clusters       []struct {
				Cluster struct {
					Server string
					CA     []byte `json:"certificate-authority-data"`
				}
			}
			Users []struct {
				User struct {
					Certificate []byte `json:"client-certificate-data"`
					Key         []byte `json:"client-key-data"`
				}
			}
		}
		if err := json.Unmarshal(file.Data, &k); err != nil {
			t.Fatalf("%s: %v", file.Path, err)
		}
		if !file.Secret || k.CurrentContext != "east" || k.Clusters[0].Cluster.Server != "https://10.203.0.1:6443" {
			t.Errorf("%s: secret=%v, context %q, server %q", file.Path, file.Secret, k.CurrentContext, k.Clusters[0].Cluster.Server)
		}
		for _, data := range [][]byte{k.Clusters[0].Cluster.CA, k.Users[0].User.Certificate, k.Users[0].User.Key} {
			if !strings.HasPrefix(string(data), "-----BEGIN ") {
				t.Errorf("%s lacks a certificate or key", file.Path)
			}
		}
	}
}
