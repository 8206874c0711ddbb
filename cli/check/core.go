package check

import (
	"context"
	"fmt"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
)

// Core is the mesh that an extension is installed beside.
type Core struct {
	Cluster *cluster.Cluster
	// Values are those of the installation.
	Values map[string]any
}

// FindCore asks, silently, whether there is a control plane that works, and
// waits for it as long as given where it is still coming up. Extensions need
// one before their installation (CLI chapter, sections 3.2 and 6.2). The error
// is for the user, as it is.
func FindCore(ctx context.Context, w *command.World, g *command.Globals, wait time.Duration) (*Core, error) {
	s := &state{world: w, options: &options{Globals: g}}
	var failed health.Result
	outcome := health.Run(ctx, []health.Category{s.kubernetesAPI(), s.existence()}, health.Options{Wait: wait, Now: w.Now, After: w.After},
		func(r health.Result) {
			if r.Err != nil && !r.Attempt && !r.Warning {
				failed = r
			}
		})
	if !outcome.Success {
		what := "find Linkerd"
		if failed.Category == "kubernetes-api" {
			what = "connect to Kubernetes"
		}
		return nil, command.Failf("Cannot %s: %s\nValidate the install with: 'linkerd check'", what, reason(ctx, failed.Err))
	}
	return &Core{Cluster: s.cluster, Values: s.values}, nil
}

// reason is why a run of checks did not succeed; one that was cancelled may
// have no failure of its own.
func reason(ctx context.Context, err error) error {
	if err == nil {
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
	return err
}
