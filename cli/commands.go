package cli

import (
	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/install"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// own lists the commands of this room.
func own(parts Parts) []Constructor {
	return []Constructor{
		func(w *command.World, g *command.Globals) *cobra.Command { return install.New(w, g, parts.Charts) },
	}
}
