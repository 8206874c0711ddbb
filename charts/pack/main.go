// Command pack writes the archives of the charts:
//
//	go run ./charts/pack -version 2026.11.1 -app edge-26.11.1 -out out/charts
//
// `helm install linkerd-crds out/charts/linkerd-crds-2026.11.1.tgz` installs
// one; the folder with an index is a chart repository.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/linkerd-go/linkerd-go/charts"
)

func main() {
	version := flag.String("version", "0.0.0-undefined", "version of the charts, a semantic version")
	app := flag.String("app", "dev-undefined", "version of the mesh, the tag of its images")
	out := flag.String("out", "out/charts", "directory to write to")
	flag.Parse()
	if err := run(*version, *app, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(version, app, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, name := range charts.Packaged {
		chart, err := charts.Load(name)
		if err != nil {
			return err
		}
		path, err := chart.Package(version, app, out)
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
