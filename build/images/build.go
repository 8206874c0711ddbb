package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const module = "github.com/linkerd-go/linkerd-go"

type options struct {
	images       []spec // to choose from
	arches, only []string
	out          string
	version      string
	push         string
	// fips is the version of Go's cryptographic module to build with; empty builds with the toolchain's own cryptography.
	fips string
}

// run builds, writes and pushes what the options say, with a line per image.
func (o *options) run(log io.Writer) error {
	if o.version == "" {
		v, err := describe()
		if err != nil {
			return err
		}
		o.version = v
	}
	chosen, err := o.choose()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, s := range chosen {
		start := time.Now()
		built := map[string]v1.Image{}
		for _, arch := range o.arches {
			img, err := o.build(s, arch)
			if err != nil {
				return fmt.Errorf("image %s for %s: %w", s.name, arch, err)
			}
			built[arch] = img
			packed, unpacked, err := sizes(img)
			if err != nil {
				return fmt.Errorf("image %s for %s: %w", s.name, arch, err)
			}
			fmt.Fprintf(log, "%s/%s:%s %s  %.1f MB (%.1f MB compressed)  %s\n", defaultRegistry, s.name, o.version, arch,
				float64(unpacked)/1e6, float64(packed)/1e6, time.Since(start).Round(100*time.Millisecond))
		}
		if err := o.write(s, built); err != nil {
			return fmt.Errorf("image %s: %w", s.name, err)
		}
	}
	return nil
}

// choose returns the images asked for, or an error that names one unknown.
func (o *options) choose() ([]spec, error) {
	if len(o.only) == 0 {
		return o.images, nil
	}
	var out []spec
	for _, n := range o.only {
		i := slices.IndexFunc(o.images, func(s spec) bool { return s.name == n })
		if i < 0 {
			return nil, fmt.Errorf("no image is called %q", n)
		}
		out = append(out, o.images[i])
	}
	return out, nil
}

// describe names the version of the checkout.
func describe() (string, error) {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("git describe (give -version instead): %w", err)
	}
	return "dev-" + strings.TrimSpace(string(out)), nil
}

// build compiles the binary and wraps it up.
func (o *options) build(s spec, arch string) (v1.Image, error) {
	bin := filepath.Join(o.out, "bin", arch, s.name)
	if o.fips != "" {
		bin = filepath.Join(o.out, "bin", arch+"-fips", s.name)
	}
	// Without the tag gRPC links a page of traces, and with it all of the
	// standard library's HTTP server and templates.
	// The state of the work tree is no part of an image: an unrelated file in it
	// would make another one of equal sources.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "grpcnotrace", "-o", bin,
		"-ldflags", "-s -w -X "+module+"/internal/version.Version="+o.version, s.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if o.fips != "" {
		cmd.Env = append(cmd.Env, "GOFIPS140="+o.fips)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build %s: %w", s.pkg, err)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	files, err := fileSystem(s, content)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", arch
	conf.Config = s.conf
	conf.Config.Labels = map[string]string{
		"org.opencontainers.image.source":   "https://" + module,
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	if o.fips != "" {
		conf.Config.Labels["io.linkerd.fips140"] = o.fips
	}
	return mutate.ConfigFile(img, conf)
}

// fileSystem writes the tar of an image's only layer.
func fileSystem(s spec, binary []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{".": true}
	var mkdir func(dir string, mode int64) error
	mkdir = func(dir string, mode int64) error {
		if made[dir] {
			return nil
		}
		if err := mkdir(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		made[dir] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode})
	}
	for _, d := range s.dirs {
		if err := mkdir(d, 0o1777); err != nil {
			return nil, err
		}
	}
	if err := mkdir(filepath.Dir(s.path), 0o755); err != nil {
		return nil, err
	}
	var attributes map[string]string
	if s.fileCapability != "" {
		// The form in which container runtimes take extended attributes.
		attributes = map[string]string{"SCHILY.xattr.security.capability": s.fileCapability}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: s.path, Mode: 0o755, Size: int64(len(binary)), PAXRecords: attributes}); err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	for _, l := range s.links {
		if err := mkdir(filepath.Dir(l), 0o755); err != nil {
			return nil, err
		}
		// A runtime changes the owner of each link that it makes, by which
		// the kernel takes the file's capabilities away: every link has to
		// give them back.
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: l, Linkname: s.path, Mode: 0o755, PAXRecords: attributes}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// sizes returns the bytes of an image's layers, packed and unpacked.
func sizes(img v1.Image) (packed, unpacked int64, err error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, err
	}
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			return 0, 0, err
		}
		packed += n
		r, err := l.Uncompressed()
		if err != nil {
			return 0, 0, err
		}
		n, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return 0, 0, err
		}
		unpacked += n
	}
	return packed, unpacked, nil
}

// write puts one architecture into a docker archive, several into an OCI
// layout, and pushes if asked to.
func (o *options) write(s spec, built map[string]v1.Image) error {
	tags := append([]string{o.version}, s.tags...)
	if len(o.arches) == 1 && o.push == "" {
		refs := map[name.Tag]v1.Image{}
		for _, t := range tags {
			ref, err := name.NewTag(defaultRegistry + "/" + s.name + ":" + t)
			if err != nil {
				return err
			}
			refs[ref] = built[o.arches[0]]
		}
		return tarball.MultiWriteToFile(filepath.Join(o.out, s.name+".tar"), refs)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range o.arches {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built[arch],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if o.push == "" {
		_, err := layout.Write(filepath.Join(o.out, s.name), index)
		return err
	}
	for _, t := range tags {
		ref, err := name.NewTag(o.push + "/" + s.name + ":" + t)
		if err != nil {
			return err
		}
		if err := remote.WriteIndex(ref, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return nil
}
