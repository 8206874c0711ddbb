package smi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// queryTimeout bounds the question to the cluster: a version is no reason to
// wait.
const queryTimeout = 5 * time.Second

func newVersion(w *command.World, g *command.Globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Args:  cobra.NoArgs,
		Short: "Print the client and server version information",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(w.Out, "Client version: %s\nServer version: %s\n", version.Current(), serverVersion(cmd.Context(), w, g))
			return err
		},
	}
}

// serverVersion is the tag of the adaptor's image.
func serverVersion(ctx context.Context, w *command.World, g *command.Globals) string {
	const unavailable = "unavailable"
	c, err := g.Connect(w)
	if err != nil {
		return unavailable
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	ns, err := find(ctx, c)
	if err != nil || ns == nil {
		return unavailable
	}
	adaptor, err := c.Kube.AppsV1().Deployments(ns.Name).Get(ctx, names.SMIAdaptor, metav1.GetOptions{})
	if err != nil {
		return unavailable
	}
	for _, container := range adaptor.Spec.Template.Spec.Containers {
		if i := strings.LastIndex(container.Image, ":"); container.Name == names.SMIAdaptor && i > strings.LastIndex(container.Image, "/") {
			return container.Image[i+1:]
		}
	}
	return unavailable
}
