package cniinstall_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/linkerd-go/linkerd-go/redirect/cniinstall"
)

const template = `{"name": "linkerd-cni", "type": "linkerd-cni", "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}, "linkerd": {"proxy-uid": 2102}}`

// Each file in testdata is a network configuration (section in) with what
// becomes of it (merged), and what of that when the plugin is taken out again
// (unmerged). Run with UPDATE=1 to rewrite them.
func TestMerge(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	plugin, err := cniinstall.PluginConfig(template, "/etc/cni/net.d/kube")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := &txtar.Archive{Comment: archive.Comment, Files: archive.Files[:1:1]}
			section := func(name, text string) {
				got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(text)})
			}
			merged, becameList, err := cniinstall.Merge(archive.Files[0].Data, plugin)
			if err != nil {
				section("error", err.Error()+"\n")
			} else {
				section("merged", string(merged))
				section("became a list", fmt.Sprintln(becameList))
				again, _, err := cniinstall.Merge(merged, plugin)
				if err != nil || !bytes.Equal(again, merged) {
					t.Errorf("merging again gives %s, %v", again, err)
				}
				without, changed, err := cniinstall.Unmerge(merged)
				if err != nil || !changed {
					t.Errorf("unmerge: changed %v, error %v", changed, err)
				}
				section("unmerged", string(without))
				if again, changed, err := cniinstall.Unmerge(without); err != nil || changed || !bytes.Equal(again, without) {
					t.Errorf("unmerging again: changed %v, error %v", changed, err)
				}
			}
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func TestPluginConfigQuotesThePath(t *testing.T) {
	path := `/odd "path"\here`
	plugin, err := cniinstall.PluginConfig(template, path)
	if err != nil {
		t.Fatal(err)
	}
	if got := plugin["kubernetes"].(map[string]any)["kubeconfig"]; got != path {
		t.Errorf("the path is %q, want %q", got, path)
	}
	if _, err := cniinstall.PluginConfig("nonsense", ""); err == nil {
		t.Error("a configuration that is no JSON is accepted")
	}
}
