package cniinstall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/redirect/cni"
)

// Errors about a network configuration that is not one.
var (
	errPlugins = errors.New("cannot determine plugins from existing cni configuration")
	errPlugin  = errors.New("cannot extract plugin from configuration")
)

// placeholder in the plugin's configuration stands for the path of the
// kubeconfig, which only the installer knows.
const placeholder = "__KUBECONFIG_FILEPATH__"

// What a configuration of a single plugin becomes when it is made a list.
const (
	listName       = "k8s-pod-network"
	listCNIVersion = "0.3.1"
)

// PluginConfig fills the path of the kubeconfig into the plugin's
// configuration.
func PluginConfig(template, kubeconfig string) (map[string]any, error) {
	// The path goes into a JSON string, so it is written as one.
	quoted, err := json.Marshal(kubeconfig)
	if err != nil {
		return nil, err
	}
	plugin, err := object([]byte(strings.ReplaceAll(template, placeholder, string(quoted[1:len(quoted)-1]))))
	if err != nil {
		return nil, fmt.Errorf("plugin configuration: %w", err)
	}
	return plugin, nil
}

// Merge puts the plugin at the end of the chain that a network configuration
// describes, replacing an entry of an earlier run. It reports whether the
// configuration was one of a single plugin and has become a list, which goes by
// another file name.
func Merge(conf []byte, plugin map[string]any) (merged []byte, becameList bool, err error) {
	root, err := object(conf)
	if err != nil {
		return nil, false, err
	}
	if _, single := root["type"]; single {
		delete(root, "cniVersion")
		root = map[string]any{
			"name":       listName,
			"cniVersion": listCNIVersion,
			"plugins":    []any{root},
		}
		becameList = true
	}
	plugins, err := others(root)
	if err != nil {
		return nil, false, err
	}
	root["plugins"] = append(plugins, plugin)
	merged, err = encode(root)
	return merged, becameList, err
}

// Unmerge takes the plugin out of a list of plugins. It reports whether it was
// in there.
func Unmerge(conf []byte) ([]byte, bool, error) {
	root, err := object(conf)
	if err != nil {
		return nil, false, err
	}
	before, _ := root["plugins"].([]any)
	plugins, err := others(root)
	if err != nil {
		return nil, false, err
	}
	if len(plugins) == len(before) {
		return conf, false, nil
	}
	root["plugins"] = plugins
	out, err := encode(root)
	return out, true, err
}

// others returns the plugins of a list without ours.
func others(root map[string]any) ([]any, error) {
	plugins, ok := root["plugins"].([]any)
	if !ok {
		return nil, errPlugins
	}
	for _, p := range plugins {
		if _, ok := p.(map[string]any); !ok {
			return nil, errPlugin
		}
	}
	return slices.DeleteFunc(slices.Clone(plugins), func(p any) bool {
		return p.(map[string]any)["type"] == cni.Type
	}), nil
}

// object reads a JSON object, keeping numbers as they are written.
func object(data []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("parse network configuration: %w", err)
	}
	if root == nil {
		return nil, errors.New("parse network configuration: it is null")
	}
	return root, nil
}

func encode(root map[string]any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write network configuration: %w", err)
	}
	return b.Bytes(), nil
}
