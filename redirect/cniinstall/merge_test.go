package cniinstall_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/redirect/cniinstall"
)

const template = `{"name": "linkerd-cni", "type": "linkerd-cni", "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}, "linkerd": {"proxy-uid": 2102}}`

// Each file in testdata is a network configuration (section in) with what
// becomes of it (merged), and what of that when the plugin is taken out again
// (unmerged). Run with -update to rewrite them.
func TestMerge(t *testing.T) {
	plugin, err := cniinstall.PluginConfig(template, "/etc/cni/net.d/kube")
	if err != nil {
		t.Fatal(err)
	}
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		got := parts[:1:1]
		section := func(name, text string) {
			got = append(got, txtar.File{Name: name, Data: []byte(text)})
		}
		merged, becameList, err := cniinstall.Merge(parts[0].Data, plugin)
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
		return got
	})
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
