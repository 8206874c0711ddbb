package charts

import (
	"fmt"
	"regexp"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// Packaged are the charts users install with Helm.
var Packaged = []string{ControlPlane, CRDs, CNI, SMI, Single}

// Package writes the archive of a chart into dir, as `helm install` takes it,
// with its library inside, and returns its path. version is the chart's own
// and has to be a semantic version; app is the version of the mesh: the tag of
// the images.
func (c *Chart) Package(version, app, dir string) (string, error) {
	packed := *c.loaded
	metadata := *c.loaded.Metadata
	metadata.Version, metadata.AppVersion = version, app
	packed.Metadata = &metadata
	packed.SetDependencies(c.loaded.Dependencies()...)
	// The values are written from the file, to keep their comments.
	packed.Raw = nil
	for _, f := range c.loaded.Raw {
		data := f.Data
		if f.Name == chartutil.ValuesfileName {
			data = withVersion(data, app)
		}
		packed.Raw = append(packed.Raw, &chart.File{Name: f.Name, Data: data})
	}
	path, err := chartutil.Save(&packed, dir)
	if err != nil {
		return "", fmt.Errorf("chart %s: %w", c.name, err)
	}
	return path, nil
}

// withVersion puts the version of the mesh in the place of the one of a build
// without version.
func withVersion(values []byte, app string) []byte {
	return unversioned.ReplaceAll(values, []byte("${1}"+app))
}

var unversioned = regexp.MustCompile(`(?m)^(linkerdVersion: ).*$`)
