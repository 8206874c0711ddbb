package image

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestWrittenImageHoldsTheProgram(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "program")
	if err := os.WriteFile(binary, []byte("#!program"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "image.tar")
	p := Program{Reference: "devcluster.local/x:1", Binary: binary, Path: "/x", User: "65534:65534"}
	if err := Write(file, p); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(p.Reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Entrypoint; len(got) != 1 || got[0] != "/x" || config.Config.User != p.User || config.OS != "linux" {
		t.Errorf("configuration = %+v", config)
	}
	files := mutate.Extract(img)
	defer files.Close()
	reader := tar.NewReader(files)
	header, err := reader.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "x" || header.Mode&0o111 == 0 || string(data) != "#!program" {
		t.Errorf("file %s mode %o: %q", header.Name, header.Mode, data)
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	p := Program{Reference: "devcluster.local/x:1", Binary: "/does/not/exist", Path: "/x"}
	if err := Write(filepath.Join(t.TempDir(), "image.tar"), p); err == nil {
		t.Error("an image of nothing was written")
	}
}
