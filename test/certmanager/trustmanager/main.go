// Command trustmanager is trust-manager, as released.
package main

import (
	"fmt"
	"os"

	"github.com/cert-manager/trust-manager/cmd/trust-manager/app"
)

func main() {
	if err := app.NewCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "trustmanager:", err)
		os.Exit(1)
	}
}
