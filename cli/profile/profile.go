// Package profile is the command linkerd profile: it writes a ServiceProfile
// from a description of an API (CLI chapter, section 5.11).
//
// Each kind of description has its own file and a pure function from its text
// to routes.
package profile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

type options struct {
	*command.Globals
	template      bool
	openAPI       string
	proto         string
	namespace     string
	ignoreCluster bool
	output        string

	tap string
}

// New returns the command.
func New(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "profile [flags] (--template | --open-api file | --proto file) (SERVICE)",
		Short: "Output service profile config for Kubernetes",
		Long:  "Output service profile config for Kubernetes.",
		Example: `  # Output a basic template to apply after modification.
  linkerd profile -n emojivoto --template web-svc

  # Generate a profile from an OpenAPI specification.
  linkerd profile -n emojivoto --open-api web-svc.swagger web-svc

  # Generate a profile from a protobuf definition.
  linkerd profile -n emojivoto --proto Voting.proto vote-svc`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), w, o, args[0]) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.template, "template", false, "Output a service profile template")
	f.StringVar(&o.openAPI, "open-api", "", "Output a service profile based on the given OpenAPI spec file")
	f.StringVar(&o.proto, "proto", "", "Output a service profile based on the given Protobuf spec file")
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of the service")
	f.BoolVar(&o.ignoreCluster, "ignore-cluster", false, "Output a service profile through offline generation")
	f.StringVarP(&o.output, "output", "o", "yaml", "Output format. One of: json|yaml")
	// Spellings of releases up to 2.9.
	f.StringVar(&o.tap, "tap", "", "Output a service profile based on tap data")
	f.Duration("tap-duration", 5*time.Second, "Duration over which tap data is collected")
	f.Uint("tap-route-limit", 20, "Max number of routes to add to the profile")
	for _, name := range []string{"tap", "tap-duration", "tap-route-limit"} {
		_ = f.MarkHidden(name)
	}
	return cmd
}

// serviceProfile is the object as it is written: only what is said.
type serviceProfile struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       spec     `json:"spec"`
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type spec struct {
	Routes []route `json:"routes"`
}

type route struct {
	Name            string          `json:"name"`
	Condition       condition       `json:"condition"`
	ResponseClasses []responseClass `json:"responseClasses,omitempty"`
	IsRetryable     bool            `json:"isRetryable,omitempty"`
	Timeout         string          `json:"timeout,omitempty"`
}

type condition struct {
	Method    string `json:"method,omitempty"`
	PathRegex string `json:"pathRegex,omitempty"`
}

type responseClass struct {
	Condition statusCondition `json:"condition"`
	IsFailure bool            `json:"isFailure,omitempty"`
}

type statusCondition struct {
	Status statusRange `json:"status"`
}

type statusRange struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

func run(ctx context.Context, w *command.World, o *options, service string) error {
	given := 0
	for _, g := range []bool{o.template, o.openAPI != "", o.proto != ""} {
		if g {
			given++
		}
	}
	if o.tap != "" && given == 0 {
		return command.Failf("linkerd profile --tap is not available: tap is not part of this version; use --open-api, --proto or --template")
	}
	if given != 1 {
		return errors.New("You must specify exactly one of --template or --open-api or --proto") //nolint:staticcheck // The text is what scripts know.
	}
	if !command.OneOf(o.output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	var c *cluster.Cluster
	if !o.ignoreCluster || o.namespace == "" {
		// Without a cluster the usual namespace and domain do.
		if found, err := o.Connect(w); err == nil {
			c = found
		} else if !o.ignoreCluster {
			return err
		}
	}
	namespace := o.namespace
	if namespace == "" {
		namespace = "default"
		if c != nil {
			namespace = command.ContextNamespace("", c)
		}
	}
	if errs := validation.IsDNS1035Label(service); len(errs) > 0 {
		return fmt.Errorf("invalid service %q: %v", service, errs)
	}
	if errs := validation.IsDNS1123Label(namespace); len(errs) > 0 {
		return fmt.Errorf("invalid namespace %q: %v", namespace, errs)
	}
	domain := "cluster.local"
	if !o.ignoreCluster {
		var err error
		if domain, err = clusterDomain(ctx, c, o.Namespace); err != nil {
			return err
		}
	}
	if o.template {
		return writeTemplate(w, o.output, service, namespace, domain)
	}
	var routes []route
	var err error
	if o.openAPI != "" {
		routes, err = read(w, o.openAPI, openAPIRoutes)
	} else {
		routes, err = read(w, o.proto, protoRoutes)
	}
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(serviceProfile{
		APIVersion: "linkerd.io/v1alpha2",
		Kind:       "ServiceProfile",
		Metadata:   metadata{Name: fmt.Sprintf("%s.%s.svc.%s", service, namespace, domain), Namespace: namespace},
		Spec:       spec{Routes: routes},
	})
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, text, o.output)
}

func read(w *command.World, file string, parse func(name string, text []byte) ([]route, error)) ([]route, error) {
	text, err := w.Read(file)
	if err != nil {
		return nil, err
	}
	routes, err := parse(file, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if routes == nil {
		routes = []route{}
	}
	return routes, nil
}

func clusterDomain(ctx context.Context, c *cluster.Cluster, namespace string) (string, error) {
	cm, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	values, err := controlplane.Values(cm)
	if err != nil {
		return "", err
	}
	if domain := valuetree.String(values, "clusterDomain"); domain != "" {
		return domain, nil
	}
	return "cluster.local", nil
}

var sample = template.Must(template.New("profile").Parse(`### ServiceProfile for {{.Service}}.{{.Namespace}} ###
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: {{.Service}}.{{.Namespace}}.svc.{{.Domain}}
  namespace: {{.Namespace}}
spec:
  # Requests are counted, and can be retried and limited, by route.
  routes:
  - name: '/authors/{id}'

    # Which requests belong to the route; of several routes, the first one
    # that fits is taken.
    condition:
      # The regular expression has to match the whole path.
      pathRegex: '/authors/\d+'

      # If more than one condition field is given, all of them must hold.
      method: POST

    # A route may be marked as retryable: failed requests are sent again as
    # long as the retry budget lasts. Only safe and idempotent routes should
    # be.
    # isRetryable: true

    # A route may be given a timeout; requests that take longer fail with
    # status 504.
    # timeout: 250ms

    # Responses are judged by the first class whose condition they meet;
    # without a class, those with a status of 500 and above are failures.
    responseClasses:
    - condition:
        status:
          min: 500
          max: 599
      isFailure: true

  # Retries of all routes together stay below this share of requests.
  # retryBudget:
  #   retryRatio: 0.2
  #   minRetriesPerSecond: 10
  #   ttl: 10s
`))

func writeTemplate(w *command.World, format, service, namespace, domain string) error {
	var b strings.Builder
	err := sample.Execute(&b, map[string]string{"Service": service, "Namespace": namespace, "Domain": domain})
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, []byte(b.String()), format)
}
