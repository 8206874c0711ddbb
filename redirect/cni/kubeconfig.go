package cni

import (
	"encoding/json"
	"fmt"
	"os"
)

// Names inside the kubeconfig (proxy chapter, sections 26.1 and 26.2).
const (
	kubeContext = "linkerd-cni-context"
	kubeCluster = "local"
	kubeUser    = "linkerd-cni"
)

// Kubeconfig is a Kubernetes client configuration with one context, as the
// installer writes it for the plugin. On disk it is JSON, which is YAML too, so
// that other Kubernetes clients can use the file as well while this program
// needs no YAML parser.
type Kubeconfig struct {
	// Server is the URL of the API.
	Server string
	// CA holds the certificates that the API's must descend from, as PEM.
	CA []byte
	// Token proves who the plugin is.
	Token string
}

// The form on disk.
type (
	kubeconfigFile struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Clusters   []namedCluster `json:"clusters"`
		Users      []namedUser    `json:"users"`
		Contexts   []namedContext `json:"contexts"`
		Current    string         `json:"current-context"`
	}
	namedCluster struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	}
	cluster struct {
		Server string `json:"server"`
		CA     []byte `json:"certificate-authority-data"`
	}
	namedUser struct {
		Name string `json:"name"`
		User user   `json:"user"`
	}
	user struct {
		Token string `json:"token"`
	}
	namedContext struct {
		Name    string         `json:"name"`
		Context kubeContextRef `json:"context"`
	}
	kubeContextRef struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	}
)

// Encode writes the configuration in the form on disk.
func (k Kubeconfig) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(kubeconfigFile{
		APIVersion: "v1",
		Kind:       "Config",
		Clusters:   []namedCluster{{kubeCluster, cluster{k.Server, k.CA}}},
		Users:      []namedUser{{kubeUser, user{k.Token}}},
		Contexts:   []namedContext{{kubeContext, kubeContextRef{kubeCluster, kubeUser}}},
		Current:    kubeContext,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return append(data, '\n'), nil
}

// ReadKubeconfig reads a file that Encode made, or one of the same form.
func ReadKubeconfig(path string) (Kubeconfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Kubeconfig{}, fmt.Errorf("read kubeconfig: %w", err)
	}
	var f kubeconfigFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Kubeconfig{}, fmt.Errorf("parse kubeconfig %s (JSON is expected): %w", path, err)
	}
	var ctx *kubeContextRef
	for _, c := range f.Contexts {
		if c.Name == kubeContext {
			ctx = &c.Context
		}
	}
	if ctx == nil {
		return Kubeconfig{}, fmt.Errorf("kubeconfig %s has no context %s", path, kubeContext)
	}
	var k Kubeconfig
	for _, c := range f.Clusters {
		if c.Name == ctx.Cluster {
			k.Server, k.CA = c.Cluster.Server, c.Cluster.CA
		}
	}
	for _, u := range f.Users {
		if u.Name == ctx.User {
			k.Token = u.User.Token
		}
	}
	if k.Server == "" || k.Token == "" {
		return Kubeconfig{}, fmt.Errorf("kubeconfig %s names no server or no token for context %s", path, kubeContext)
	}
	return k, nil
}
