package names

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strings"
	"testing"
)

// constants type-checks the package and returns its string constants by name.
func constants(t *testing.T) map[string]string {
	t.Helper()
	set := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	// Imports are not resolved: constants do not need them.
	config := types.Config{Error: func(error) {}, Importer: nil}
	pkg, _ := config.Check("names", set, files, nil)
	found := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok && c.Val().Kind() == constant.String {
			found[name] = constant.StringVal(c.Val())
		}
	}
	return found
}

func readList(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

func compare(t *testing.T, want, got []string) {
	t.Helper()
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("no constant for %s", s)
		}
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("not in the list: %s", s)
		}
	}
}

func TestProxyEnv(t *testing.T) {
	var got []string
	for name, value := range constants(t) {
		if name != "EnvProxyPrefix" && strings.HasPrefix(value, EnvProxyPrefix) {
			got = append(got, value)
		}
	}
	compare(t, readList(t, "testdata/proxyenv.txt"), got)
}

func TestKeys(t *testing.T) {
	var got []string
	for name, value := range constants(t) {
		if strings.HasPrefix(name, "Annotation") || strings.HasPrefix(name, "Label") || name == "RemoteDiscovery" {
			got = append(got, value)
		}
	}
	compare(t, readList(t, "testdata/keys.txt"), got)
}

// Each annotation that configures proxies is either inheritable or for pods only.
func TestInheritance(t *testing.T) {
	inherited, pods := InheritableAnnotations(), PodOnlyAnnotations()
	both := slices.Concat(inherited, pods)
	slices.Sort(both)
	if n := len(both); len(slices.Compact(both)) != n {
		t.Error("an annotation is listed twice")
	}
	for name, value := range constants(t) {
		if !strings.HasPrefix(name, "Annotation") || !strings.HasPrefix(value, "config.") {
			continue
		}
		if !slices.Contains(inherited, value) && !slices.Contains(pods, value) {
			t.Errorf("%s (%s) is in neither list", name, value)
		}
	}
}

func TestIdentity(t *testing.T) {
	if got, want := ServiceAccountIdentity("web", "emo", "linkerd", "cluster.local"), "web.emo.serviceaccount.identity.linkerd.cluster.local"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := ServiceAccountIdentity("", "emo", "linkerd", "cluster.local"), "default.emo.serviceaccount.identity.linkerd.cluster.local"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := NamespaceIdentity("emo", "linkerd", "cluster.local"), "*.emo.serviceaccount.identity.linkerd.cluster.local"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct {
		name string
		want Identity
		ok   bool
	}{
		{"web.emo.serviceaccount.identity.linkerd.cluster.local", Identity{"web", "emo", "linkerd", "cluster.local"}, true},
		{"a.b.emo.serviceaccount.identity.linkerd.td", Identity{"a.b", "emo", "linkerd", "td"}, true},
		// An account that is named like an identity of another namespace is not that identity.
		{"web.emo.serviceaccount.identity.linkerd.td.evil.serviceaccount.identity.linkerd.td", Identity{"web.emo.serviceaccount.identity.linkerd.td", "evil", "linkerd", "td"}, true},
		{"web.serviceaccount.identity.linkerd.td", Identity{}, false},
		{"web.emo.serviceaccount.identity.linkerd", Identity{}, false},
		{".emo.serviceaccount.identity.linkerd.td", Identity{}, false},
		{"web.emo.serviceaccount.identity..td", Identity{}, false},
		{"vm1.example", Identity{}, false},
		{"", Identity{}, false},
	} {
		got, ok := ParseIdentity(c.name)
		if ok != c.ok || got != c.want {
			t.Errorf("%s: got %+v %v, want %+v %v", c.name, got, ok, c.want, c.ok)
		}
		if ok && got.String() != c.name {
			t.Errorf("%s: written back as %s", c.name, got)
		}
	}
}

func TestDefaultPolicies(t *testing.T) {
	for _, p := range DefaultPolicies() {
		if !IsDefaultPolicy(p) {
			t.Errorf("%s is not a policy", p)
		}
	}
	if IsDefaultPolicy("allow") || IsDefaultPolicy("") {
		t.Error("unknown policy accepted")
	}
}

func TestCreatedBy(t *testing.T) {
	if got, want := CreatedBy(CreatorProxyInjector, "v1"), "linkerd/proxy-injector v1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
