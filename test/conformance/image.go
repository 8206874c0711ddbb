package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"sigs.k8s.io/gateway-api/conformance"
)

// imageLine finds the images in the suite's manifests.
var imageLine = regexp.MustCompile(`(?m)^\s*image:\s*(\S+)\s*$`)

// imageNames returns the images that the suite's mesh manifests ask for.
func imageNames() ([]string, error) {
	manifests, err := conformance.Manifests.ReadFile("mesh/manifests.yaml")
	if err != nil {
		return nil, fmt.Errorf("reading the suite's manifests: %w", err)
	}
	var names []string
	for _, m := range imageLine.FindAllSubmatch(manifests, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return nil, fmt.Errorf("the suite's manifests name no image")
	}
	return names, nil
}

// buildEcho compiles the echo program and writes an archive in which it has
// all names that the suite's manifests ask for.
func buildEcho(ctx context.Context, dir, archive string) error {
	names, err := imageNames()
	if err != nil {
		return err
	}
	binary := filepath.Join(filepath.Dir(archive), "conformance-echo")
	defer os.Remove(binary)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./echo")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the echo program: %w", err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	img, err := image(content)
	if err != nil {
		return fmt.Errorf("packing the echo program: %w", err)
	}
	tags := map[name.Tag]v1.Image{}
	for _, n := range names {
		tag, err := name.NewTag(n)
		if err != nil {
			return fmt.Errorf("image of the suite: %w", err)
		}
		tags[tag] = img
	}
	return tarball.MultiWriteToFile(archive, tags)
}

// image holds the program under its two names: that of the server, which the
// container starts, and that of the client, which the suite runs in it.
func image(program []byte) (v1.Image, error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "bin/server", Mode: 0o755, Size: int64(len(program))},
		{Typeflag: tar.TypeLink, Name: "bin/client", Linkname: "bin/server", Mode: 0o755},
	} {
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", runtime.GOARCH
	conf.Config = v1.Config{Entrypoint: []string{"/bin/server"}, Env: []string{"PATH=/bin"}, User: "65532"}
	return mutate.ConfigFile(img, conf)
}
