package repo

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/linkerd-go/linkerd-go"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Doc          string
	Name         string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

// room is the top-level folder of a package of ours, "" for a foreign one.
func room(path string) string {
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// within is the path of a package of ours below the module root.
func within(path string) string { return strings.TrimPrefix(path, module+"/") }

func list(t *testing.T) []pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// packages are all of the root module. They are asked for once: that takes seconds.
var packages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,Name,GoFiles,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// shared are the rooms that every room may import.
var shared = []string{"api", "internal"}

// joiners are the rooms that may import several others: mains, and tests of
// the whole.
var joiners = []string{"cmd", "test", "bench", "build"}

// TestRoomsImportNoOtherRoom keeps the fire doors shut: a room that imports
// none but api and internal can be understood, replaced or removed alone.
func TestRoomsImportNoOtherRoom(t *testing.T) {
	for _, p := range list(t) {
		from := room(p.ImportPath)
		if slices.Contains(joiners, from) {
			continue
		}
		for _, i := range p.Imports {
			to := room(i)
			switch {
			case to == "" || to == from:
			case slices.Contains(shared, from) && to != from && !slices.Contains(shared, to):
				t.Errorf("%s imports %s: api and internal are below every room, so they know none of them", within(p.ImportPath), within(i))
			case slices.Contains(shared, to):
			default:
				t.Errorf("%s imports %s: rooms meet in api/ and internal/ only; join them in cmd/, or pass the thing in as an interface", within(p.ImportPath), within(i))
			}
		}
	}
}

// forbidden says what must not be linked into what, and why.
var forbidden = []struct {
	from, dep, why string
}{
	{"proxy", "k8s.io/", "the proxy runs in every pod: a Kubernetes client would double its size, and it has no credentials for one"},
	{"proxy", "sigs.k8s.io/", "the proxy reads no YAML"},
	{"proxy", "gopkg.in/yaml", "the proxy reads no YAML"},
	{"proxy", "helm.sh/", "the proxy renders nothing"},
	{"redirect", "k8s.io/", "the init container works before there is a network"},
	{"redirect", "google.golang.org/grpc", "the init container works before there is a network"},
	{"cmd/linkerd-proxy", "k8s.io/", "the proxy runs in every pod: a Kubernetes client would double its size, and it has no credentials for one"},
	{"cmd/linkerd-proxy", "google.golang.org/", "the proxy runs in every pod: api/lean and proxy/rpc are what it speaks gRPC with (docs/decisions/lean-proxy.md)"},
	{"cmd/linkerd-proxy", "net/http", "the proxy runs in every pod: proxy/h1 and proxy/h2 are what it speaks HTTP with (docs/decisions/lean-proxy.md)"},
	{"cmd/linkerd-proxy", "github.com/miekg/dns", "the proxy runs in every pod: proxy/dns is what it asks DNS with (docs/decisions/lean-proxy.md)"},
	{"control", "helm.sh/", "controllers serve; what they render is passed in by cmd"},
}

// TestForbiddenDependencies keeps programs small and rooms honest.
func TestForbiddenDependencies(t *testing.T) {
	for _, p := range list(t) {
		path := within(p.ImportPath)
		for _, f := range forbidden {
			if path != f.from && !strings.HasPrefix(path, f.from+"/") {
				continue
			}
			for _, d := range p.Deps {
				if strings.HasPrefix(d, f.dep) {
					t.Errorf("%s links %s: %s", path, d, f.why)
					break
				}
			}
		}
	}
}

// protobufAllowed are the proxy's packages that may know the wire types.
var protobufAllowed = []string{"proxy/discovery", "proxy/tap", "proxy/tracing"}

// TestProtobufStaysAtTheProxysEdge: everything behind discovery works on the
// types of proxy/model, so that it can be tested, and changed, without the wire.
func TestProtobufStaysAtTheProxysEdge(t *testing.T) {
	for _, p := range list(t) {
		path := within(p.ImportPath)
		if room(p.ImportPath) != "proxy" || slices.ContainsFunc(protobufAllowed, func(a string) bool {
			return path == a || strings.HasPrefix(path, a+"/")
		}) {
			continue
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module+"/api/proto") || strings.HasPrefix(i, module+"/api/lean") || strings.HasPrefix(i, "google.golang.org/protobuf") || strings.HasPrefix(i, "google.golang.org/grpc") {
				t.Errorf("%s imports %s: only %s know the wire; everything else works on proxy/model", path, i, strings.Join(protobufAllowed, ", "))
			}
		}
	}
}

// TestModelImportsNothing: the types in the middle depend on nobody.
func TestModelImportsNothing(t *testing.T) {
	for _, p := range list(t) {
		if within(p.ImportPath) != "proxy/model" {
			continue
		}
		for _, i := range p.Imports {
			if strings.Contains(i, ".") {
				t.Errorf("proxy/model imports %s: it is what the others have in common, so it imports the standard library alone", i)
			}
		}
	}
}

// TestInboundAndOutboundDoNotMeet: what joins them is the gateway.
func TestInboundAndOutboundDoNotMeet(t *testing.T) {
	for _, p := range list(t) {
		path := within(p.ImportPath)
		for _, i := range p.Imports {
			if under(path, "proxy/inbound") && under(within(i), "proxy/outbound") || under(path, "proxy/outbound") && under(within(i), "proxy/inbound") {
				t.Errorf("%s imports %s: only proxy/gateway and proxy/app know both directions", path, within(i))
			}
		}
	}
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
