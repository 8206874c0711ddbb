// Package image writes container images as tar files, without a daemon or a registry: one static program in
// an otherwise empty image.
package image

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Program is an image with one program.
type Program struct {
	// Reference is the image's name and tag.
	Reference string
	// Binary is the statically linked program on this machine, Path where it goes in the image.
	Binary, Path string
	// User is the numeric user and group it runs as.
	User string
}

// Write writes p to file, replacing what is there. The layer is not compressed: it travels no further than
// the containerd next door.
func Write(file string, p Program) error {
	reference, err := name.NewTag(p.Reference, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image %s: %w", p.Reference, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return open(p) },
		tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		return fmt.Errorf("image %s: make layer: %w", p.Reference, err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("image %s: add layer: %w", p.Reference, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("image %s: %w", p.Reference, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{p.Path}, User: p.User, WorkingDir: "/"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return fmt.Errorf("image %s: set configuration: %w", p.Reference, err)
	}
	if err := tarball.WriteToFile(file, reference, img); err != nil {
		return fmt.Errorf("image %s: write %s: %w", p.Reference, file, err)
	}
	return nil
}

// open streams the layer. The same binary gives the same bytes, whenever it was built.
func open(p Program) (io.ReadCloser, error) {
	binary, err := os.Open(p.Binary)
	if err != nil {
		return nil, err
	}
	info, err := binary.Stat()
	if err != nil {
		binary.Close()
		return nil, err
	}
	reader, writer := io.Pipe()
	go func() {
		defer binary.Close()
		out := tar.NewWriter(writer)
		err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.Path[1:], Size: info.Size(), Mode: 0o755})
		if err == nil {
			_, err = io.Copy(out, binary)
		}
		if err == nil {
			err = out.Close()
		}
		// A reader that gave up early has closed its end, which ends the copy above.
		writer.CloseWithError(err)
	}()
	return reader, nil
}
