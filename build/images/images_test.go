package main

import (
	"archive/tar"
	"debug/buildinfo"
	"errors"
	"io"
	stdlog "log"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// hello is an image of a program that builds in no time.
var hello = spec{
	name:           "hello",
	pkg:            module + "/build/images/testdata/hello",
	path:           "usr/lib/hello",
	links:          []string{"bin/hi"},
	dirs:           []string{"tmp"},
	fileCapability: "cap",
	conf:           v1.Config{Entrypoint: []string{"/usr/lib/hello"}, User: "65534"},
	tags:           []string{"latest"},
}

func builder(t *testing.T, arches ...string) *options {
	return &options{images: []spec{hello}, arches: arches, out: t.TempDir(), version: "v1"}
}

// files lists an image's paths, with what is special about each.
func files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	found := map[string]string{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		what := map[byte]string{tar.TypeDir: "dir", tar.TypeReg: "file", tar.TypeLink: "link to " + h.Linkname}[h.Typeflag]
		if h.PAXRecords["SCHILY.xattr.security.capability"] != "" {
			what += " with capability"
		}
		found[strings.TrimSuffix(h.Name, "/")] = what
	}
}

func TestArchive(t *testing.T) {
	o := builder(t, "amd64")
	var log strings.Builder
	if err := o.run(&log); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "ghcr.io/linkerd-go/hello:v1 amd64") {
		t.Errorf("it printed %q", log.String())
	}
	for _, tag := range []string{"v1", "latest"} {
		ref, err := name.NewTag("ghcr.io/linkerd-go/hello:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(filepath.Join(o.out, "hello.tar"), &ref)
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		conf, err := img.ConfigFile()
		if err != nil || conf.Architecture != "amd64" || conf.Config.User != "65534" || conf.Config.Labels["org.opencontainers.image.version"] != "v1" {
			t.Errorf("configuration %+v: %v", conf, err)
		}
		got := files(t, img)
		// The capability has to stand at each link too: see fileSystem.
		for path, want := range map[string]string{
			"usr/lib/hello": "file with capability",
			"bin/hi":        "link to usr/lib/hello with capability",
			"tmp":           "dir",
			"bin":           "dir",
		} {
			if got[path] != want {
				t.Errorf("%s is %q, want %q", path, got[path], want)
			}
		}
	}
}

// TestEqualSourcesGiveEqualImages compares digests, which name an image wherever
// it is kept; in which order an archive lists its tags is chance.
func TestEqualSourcesGiveEqualImages(t *testing.T) {
	var first v1.Hash
	for range 2 {
		o := builder(t, "amd64")
		if err := o.run(io.Discard); err != nil {
			t.Fatal(err)
		}
		ref, err := name.NewTag("ghcr.io/linkerd-go/hello:v1")
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(filepath.Join(o.out, "hello.tar"), &ref)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if first != (v1.Hash{}) && first != digest {
			t.Errorf("two builds differ: %s and %s", first, digest)
		}
		first = digest

		// A file that comes or goes elsewhere in the work tree makes no other image.
		info, err := buildinfo.ReadFile(filepath.Join(o.out, "bin", "amd64", "hello"))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs") {
				t.Errorf("the program says %s=%s", s.Key, s.Value)
			}
		}
	}
}

// TestFIPS runs what was built: the module is there, and on by itself.
func TestFIPS(t *testing.T) {
	for version, want := range map[string]string{"": "hello, fips140 false", "v1.0.0": "hello, fips140 true"} {
		o := builder(t, runtime.GOARCH)
		o.fips = version
		if err := o.run(io.Discard); err != nil {
			t.Fatal(err)
		}
		arch := runtime.GOARCH
		if version != "" {
			arch += "-fips"
		}
		out, err := exec.Command(filepath.Join(o.out, "bin", arch, "hello")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("-fips %q: it printed %q: %v", version, out, err)
		}
		ref, err := name.NewTag("ghcr.io/linkerd-go/hello:v1")
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(filepath.Join(o.out, "hello.tar"), &ref)
		if err != nil {
			t.Fatal(err)
		}
		conf, err := img.ConfigFile()
		if err != nil || conf.Config.Labels["io.linkerd.fips140"] != version {
			t.Errorf("-fips %q: labels %v: %v", version, conf.Config.Labels, err)
		}
	}
}

// arches are the architectures of an index.
func arches(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range m.Manifests {
		if d.Platform != nil {
			out = append(out, d.Platform.Architecture)
			continue
		}
		inner, err := index.ImageIndex(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, arches(t, inner))
	}
	return strings.Join(out, " ")
}

func TestLayoutHoldsBothArchitectures(t *testing.T) {
	o := builder(t, "amd64", "arm64")
	if err := o.run(io.Discard); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(o.out, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	if got := arches(t, index); got != "amd64 arm64" {
		t.Errorf("architectures %q", got)
	}
}

func TestPush(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0))))
	defer srv.Close()
	where := strings.TrimPrefix(srv.URL, "http://") + "/mesh"
	o := builder(t, "amd64", "arm64")
	o.push = where
	if err := o.run(io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "latest"} {
		ref, err := name.NewTag(where + "/hello:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		index, err := remote.Index(ref)
		if err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		if got := arches(t, index); got != "amd64 arm64" {
			t.Errorf("%s has architectures %q", tag, got)
		}
	}
}

func TestUnknownImageIsNamed(t *testing.T) {
	o := builder(t, "amd64")
	o.only = []string{"frobnicator"}
	if err := o.run(io.Discard); err == nil || !strings.Contains(err.Error(), `"frobnicator"`) {
		t.Errorf("error is %v", err)
	}
}
