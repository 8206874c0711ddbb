package check

import (
	"context"
	"fmt"

	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/health"
)

// minimum is the oldest Kubernetes the control plane runs on.
var minimum = utilversion.MustParseSemantic("1.31.0")

func (s *state) kubernetesAPI() health.Category {
	return health.Category{ID: "kubernetes-api", Checks: []health.Check{
		{
			Description: "can initialize the client",
			Anchor:      "k8s-api",
			Fatal:       true,
			Run: func(context.Context) error {
				c, err := s.options.Connect(s.world)
				if err != nil {
					return err
				}
				s.cluster = c
				return nil
			},
		},
		{
			Description: "can query the Kubernetes API",
			Anchor:      "k8s-api",
			Fatal:       true,
			Run: func(ctx context.Context) error {
				info, err := s.cluster.Version(ctx)
				if err != nil {
					return err
				}
				s.serverVersion = info.GitVersion
				return nil
			},
		},
	}}
}

func (s *state) kubernetesVersion() health.Category {
	return health.Category{ID: "kubernetes-version", Checks: []health.Check{{
		Description: "is running the minimum Kubernetes API version",
		Anchor:      "k8s-version",
		Run: func(context.Context) error {
			got, err := utilversion.ParseGeneric(s.serverVersion)
			if err != nil {
				return err
			}
			if got.LessThan(minimum) {
				return fmt.Errorf("Kubernetes is on version [%d.%d.%d], but version [%s] or more recent is required", //nolint:staticcheck // The text is what scripts know.
					got.Major(), got.Minor(), got.Patch(), minimum)
			}
			return nil
		},
	}}}
}

func (s *state) gatewayAPI() health.Category {
	return health.Category{ID: "gateway-api-crd", Checks: []health.Check{{
		Description: "Gateway API CRDs are installed",
		Anchor:      "gateway-api-crd",
		Fatal:       true,
		Run: func(ctx context.Context) error {
			state, err := controlplane.Gateway(ctx, s.cluster)
			if err != nil {
				return err
			}
			if state == controlplane.GatewayAbsent {
				if s.options.pre {
					return health.Note("    not yet: linkerd install --crds will install them")
				}
				return controlplane.ErrGatewayAbsent
			}
			return nil
		},
	}}}
}
