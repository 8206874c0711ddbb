package kube

import (
	"context"
	"flag"
	"fmt"
	"log/slog"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// Config says how to reach the Kubernetes API.
type Config struct {
	// Kubeconfig is the path of a kubeconfig file. Empty uses the pod's own ServiceAccount.
	Kubeconfig string
	// QPS and Burst limit the rate of requests. Zero is client-go's default.
	QPS   float64
	Burst int
	// Component is the name of the controller, for the User-Agent and the label of the client's metrics.
	Component string
}

// Register adds the -kubeconfig flag to fs.
func (c *Config) Register(fs *flag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig file; empty uses the pod's ServiceAccount")
}

// RegisterRate adds the flags of the request rate to fs, with the values c has as defaults.
func (c *Config) RegisterRate(fs *flag.FlagSet) {
	fs.Float64Var(&c.QPS, "kube-apiclient-qps", c.QPS, "requests per second to the Kubernetes API, sustained")
	fs.IntVar(&c.Burst, "kube-apiclient-burst", c.Burst, "requests to the Kubernetes API in a burst")
}

// Clients are the ways to talk to one cluster. Tests fill in client-go's fakes.
type Clients struct {
	// Kube speaks about the built-in kinds.
	Kube kubernetes.Interface
	// Dynamic speaks about custom resources.
	Dynamic dynamic.Interface
	// Metadata reads the metadata of any kind, without the rest.
	Metadata metadata.Interface
}

// SetLogger sends what client-go logs (watches that end and begin anew, requests refused) to logger. It is called once,
// before the first client is made. What client-go says about its own working is left out unless the logger is set to
// ctrlflags.LevelTrace: it would drown what a controller says at debug level.
func SetLogger(logger *slog.Logger) {
	if !logger.Enabled(context.Background(), ctrlflags.LevelTrace) {
		logger = slog.New(fromInfo{logger.Handler()})
	}
	klog.SetSlogLogger(logger)
}

// fromInfo is a handler without the levels below info.
type fromInfo struct{ slog.Handler }

func (h fromInfo) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && h.Handler.Enabled(ctx, level)
}

func (h fromInfo) WithAttrs(attrs []slog.Attr) slog.Handler {
	return fromInfo{h.Handler.WithAttrs(attrs)}
}
func (h fromInfo) WithGroup(name string) slog.Handler { return fromInfo{h.Handler.WithGroup(name)} }

// Connect returns the clients of the cluster that config describes. It makes no request.
func Connect(config Config) (*Clients, error) {
	load := rest.InClusterConfig
	if config.Kubeconfig != "" {
		load = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", config.Kubeconfig) }
	}
	restConfig, err := load()
	if err != nil {
		return nil, fmt.Errorf("loading the Kubernetes client configuration: %w", err)
	}
	return connect(restConfig, config)
}

// ConnectKubeconfig is like Connect with the content of a kubeconfig file, as kept in the Secret of a linked cluster.
func ConnectKubeconfig(kubeconfig []byte, config Config) (*Clients, error) {
	restConfig, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("loading the Kubernetes client configuration: %w", err)
	}
	return connect(restConfig, config)
}

func connect(restConfig *rest.Config, config Config) (*Clients, error) {
	restConfig.QPS, restConfig.Burst = float32(config.QPS), config.Burst
	restConfig.UserAgent = fmt.Sprintf("linkerd-go-%s/%s", config.Component, version.Version)
	restConfig.Wrap(instrument(config.Component))
	// Protobuf costs the API server and us a fraction of what JSON costs. Custom resources have no protobuf form, so the
	// other two clients speak JSON.
	typed := rest.CopyConfig(restConfig)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	kube, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("making the Kubernetes client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("making the dynamic Kubernetes client: %w", err)
	}
	meta, err := metadata.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("making the metadata Kubernetes client: %w", err)
	}
	return &Clients{Kube: kube, Dynamic: dyn, Metadata: meta}, nil
}

// CheckAccess asks the API server whether this process may do something, so that missing rights are found at startup and
// named, not met later in a watch that never starts.
func CheckAccess(ctx context.Context, client kubernetes.Interface, attributes authorizationv1.ResourceAttributes) error {
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes},
	}, metav1.CreateOptions{})
	what := attributes.Verb + " " + attributes.Resource
	if attributes.Group != "" {
		what += "." + attributes.Group
	}
	if err != nil {
		return fmt.Errorf("checking access to %s: %w", what, err)
	}
	if !review.Status.Allowed {
		if review.Status.Reason != "" {
			return fmt.Errorf("not authorized to %s: %s", what, review.Status.Reason)
		}
		return fmt.Errorf("not authorized to %s", what)
	}
	return nil
}

// HasResource reports whether the API server serves a resource (plural, lower case) of a group version, for example
// `serviceprofiles` of `linkerd.io/v1alpha2`.
func HasResource(client discovery.DiscoveryInterface, groupVersion, resource string) (bool, error) {
	list, err := client.ServerResourcesForGroupVersion(groupVersion)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing the resources of %s: %w", groupVersion, err)
	}
	for _, r := range list.APIResources {
		if r.Name == resource {
			return true, nil
		}
	}
	return false, nil
}

// CheckList asks the API server whether it serves these resources and lets this process list them, so that what a controller
// cannot do without is named if it is missing.
func CheckList(ctx context.Context, client kubernetes.Interface, resources ...schema.GroupVersionResource) error {
	for _, r := range resources {
		if r.Group != "" { // every API server has the core group
			has, err := HasResource(client.Discovery(), r.GroupVersion().String(), r.Resource)
			if err != nil {
				return err
			}
			if !has {
				return fmt.Errorf("the cluster has no resource %s.%s/%s", r.Resource, r.Group, r.Version)
			}
		}
		if err := CheckAccess(ctx, client, authorizationv1.ResourceAttributes{
			Verb: "list", Group: r.Group, Version: r.Version, Resource: r.Resource,
		}); err != nil {
			return err
		}
	}
	return nil
}
