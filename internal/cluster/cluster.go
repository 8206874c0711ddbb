// Package cluster connects a command of the CLI to a Kubernetes cluster, with
// the files, flags and rules kubectl has.
//
// Usage:
//
//	c, err := cluster.Connect(cluster.Options{Context: "staging"})
//	pods, err := c.Kube.CoreV1().Pods(c.Namespace).List(ctx, ...)
//
// A Cluster is immutable and its clients are safe for concurrent use.
// Connecting makes no request.
package cluster

import (
	"context"
	"fmt"

	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/linkerd-go/linkerd-go/internal/version"
)

// Options say which cluster, and as whom (CLI chapter, section 1.1).
type Options struct {
	// Kubeconfig is a file; empty takes $KUBECONFIG, then ~/.kube/config.
	Kubeconfig string
	// Context of the kubeconfig; empty takes the current one.
	Context string
	// As and AsGroups name the user and groups to impersonate.
	As       string
	AsGroups []string
}

// Cluster holds the clients of one cluster. Tests fill it with client-go's
// fakes and leave Config nil.
type Cluster struct {
	// Config is how the API server is reached; port-forwards need it.
	Config *rest.Config
	// Kube speaks about built-in kinds.
	Kube kubernetes.Interface
	// Dynamic speaks about custom resources.
	Dynamic dynamic.Interface
	// Namespace is the one of the context in use, or "default".
	Namespace string
}

// Version asks the API server for its version, mostly to see whether it
// answers. It returns when ctx ends; the request may then go on in the
// background, within the client's own limits.
func (c *Cluster) Version(ctx context.Context) (*apiversion.Info, error) {
	type result struct {
		info *apiversion.Info
		err  error
	}
	done := make(chan result, 1)
	go func() {
		info, err := c.Kube.Discovery().ServerVersion()
		done <- result{info, err}
	}()
	select {
	case r := <-done:
		return r.info, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Connect reads the kubeconfig and makes the clients.
func Connect(o Options) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("error configuring Kubernetes API client: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("error configuring Kubernetes API client: %w", err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: o.As, Groups: o.AsGroups}
	config.UserAgent = "linkerd-go-cli/" + version.Current()
	// A command looks at many objects in a short time and then ends: the
	// limits meant for controllers would only make it slow.
	config.QPS, config.Burst = 100, 200
	// Standard error is for the command's own reports.
	config.WarningHandler = rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("error configuring Kubernetes API client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("error configuring Kubernetes API client: %w", err)
	}
	return &Cluster{Config: config, Kube: kube, Dynamic: dyn, Namespace: namespace}, nil
}
