// Command linkerd is the user's tool for the mesh.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/charts"
	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/cli/inject"
	"github.com/linkerd-go/linkerd-go/internal/command"
	engine "github.com/linkerd-go/linkerd-go/internal/inject"
	viz "github.com/linkerd-go/linkerd-go/viz/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the command to end, the second one ends it, whatever it waits for.
	context.AfterFunc(ctx, stop)
	code := cli.Run(ctx, command.Real(), parts(), os.Args[1:])
	stop()
	os.Exit(code)
}

// parts joins the rooms.
func parts() cli.Parts {
	return cli.Parts{
		Charts: controlplane.Charts{
			ControlPlane: loader(charts.ControlPlane),
			CRDs:         loader(charts.CRDs),
		},
		CNI:      loader(charts.CNI),
		SMI:      loader(charts.SMI),
		Commands: []cli.Constructor{injecting, inject.NewUninject, viz.New},
		Moved:    viz.Moved(),
	}
}

// injecting is the command inject with the charts that it needs.
func injecting(w *command.World, g *command.Globals) *cobra.Command {
	return inject.New(w, g, inject.Parts{
		Values:   loader(charts.ControlPlane),
		Renderer: func(namespace string) (engine.Renderer, error) { return charts.PatchRenderer(namespace) },
	})
}

func loader(name string) func() (controlplane.Chart, error) {
	return func() (controlplane.Chart, error) {
		c, err := charts.Load(name)
		if err != nil {
			return nil, err
		}
		return chart{c}, nil
	}
}

// chart renders the way the CLI needs it.
type chart struct{ *charts.Chart }

var _ controlplane.Chart = chart{}

func (c chart) Render(namespace string, values map[string]any, first ...string) ([]byte, error) {
	manifests, err := c.Chart.Render(charts.Release{Name: "linkerd", Namespace: namespace, Service: charts.ServiceCLI}, values)
	if err != nil {
		return nil, err
	}
	return charts.Join(manifests, first...), nil
}
