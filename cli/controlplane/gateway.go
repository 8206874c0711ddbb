package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// CRDResource is where CustomResourceDefinitions are found.
var CRDResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// GatewayState says who provides the Gateway API in a cluster.
type GatewayState int

// The states of the CLI chapter, section 2.7.
const (
	GatewayAbsent GatewayState = iota
	GatewayManaged
	GatewayExternal
)

// ErrGatewayAbsent tells how to install the Gateway API.
var ErrGatewayAbsent = errors.New(`The Gateway API CRDs must be installed prior to installing Linkerd. Run:

kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.5.1/standard-install.yaml

or let Linkerd provide them with --set installGatewayAPI=true. See https://linkerd.io/2/features/gateway-api/`) //nolint:staticcheck // A message for the user's screen.

// Gateway finds out who provides the Gateway API.
func Gateway(ctx context.Context, c *cluster.Cluster) (GatewayState, error) {
	state := GatewayAbsent
	for _, name := range []string{"httproutes.gateway.networking.k8s.io", "grpcroutes.gateway.networking.k8s.io"} {
		crd, err := c.Dynamic.Resource(CRDResource).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return state, fmt.Errorf("failed to get CustomResourceDefinition %s: %w", name, err)
		}
		if _, ours := crd.GetAnnotations()[CreatedBy]; ours {
			if state == GatewayAbsent {
				state = GatewayManaged
			}
			continue
		}
		if !serves(crd, "v1") {
			return state, fmt.Errorf("the %s CRD is missing the v1 version, please upgrade to Gateway API v1.1.1 or later", name)
		}
		state = GatewayExternal
	}
	return state, nil
}

func serves(crd *unstructured.Unstructured, version string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["name"] == version && m["served"] != false {
			return true
		}
	}
	return false
}

// CRDValues returns the final values of the CRD chart for a cluster, or for
// none when c is nil, and refuses those that would take the Gateway API away
// or overwrite somebody else's. Unless the user says otherwise, a cluster that
// lacks the Gateway API gets ours: users' documents install the mesh on bare
// clusters, and some of those cannot fetch anything.
func CRDValues(ctx context.Context, charts Charts, c *cluster.Cluster, overrides map[string]any) (map[string]any, error) {
	chart, err := charts.CRDs()
	if err != nil {
		return nil, err
	}
	values, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return valuetree.Merge(values, overrides), nil
	}
	state, err := Gateway(ctx, c)
	if err != nil {
		return nil, err
	}
	values["installGatewayAPI"] = state != GatewayExternal
	values = valuetree.Merge(values, overrides)
	installing := valuetree.Bool(values, "installGatewayAPI")
	if v, ok := values["enableHttpRoutes"]; ok && v != nil {
		installing = v == true
	}
	switch {
	case state == GatewayAbsent && !installing:
		return nil, ErrGatewayAbsent
	case state == GatewayManaged && !installing:
		return nil, errors.New("Linkerd is providing GW API, but your current install configuration will remove it") //nolint:staticcheck // Known text.
	case state == GatewayExternal && installing:
		return nil, errors.New("Linkerd cannot install the Gateway API CRDs because they are already installed by an external source. Please set `installGatewayAPI` to `false`.") //nolint:staticcheck // Likewise.
	}
	return values, nil
}

// ErrMissingCRDs says what the cluster lacks, as opposed to errors in finding
// out.
type ErrMissingCRDs struct{ Missing []string }

func (e *ErrMissingCRDs) Error() string { return strings.Join(e.Missing, ", ") }

// MissingCRDs checks that the cluster has every CRD of the chart, Gateway API
// aside, with the last version the chart lists. What is missing comes as
// *ErrMissingCRDs.
func MissingCRDs(ctx context.Context, charts Charts, c *cluster.Cluster) error {
	manifest, err := RenderCRDs(charts, "", map[string]any{"installGatewayAPI": false})
	if err != nil {
		return err
	}
	objects, err := Objects(manifest)
	if err != nil {
		return err
	}
	var missing []string
	for _, o := range objects {
		want, err := lastVersion(o.Raw)
		if err != nil {
			return err
		}
		crd, err := c.Dynamic.Resource(CRDResource).Get(ctx, o.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			missing = append(missing, "missing "+o.Name)
		case err != nil:
			return fmt.Errorf("failed to get CustomResourceDefinition %s: %w", o.Name, err)
		case !serves(crd, want):
			missing = append(missing, fmt.Sprintf("CRD %s is missing version %s", o.Name, want))
		}
	}
	if len(missing) > 0 {
		return &ErrMissingCRDs{missing}
	}
	return nil
}

func lastVersion(document []byte) (string, error) {
	var crd struct {
		Spec struct {
			Versions []struct {
				Name string `json:"name"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(document, &crd); err != nil {
		return "", err
	}
	if len(crd.Spec.Versions) == 0 {
		return "", errors.New("CustomResourceDefinition without versions")
	}
	return crd.Spec.Versions[len(crd.Spec.Versions)-1].Name, nil
}
