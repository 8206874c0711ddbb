// Package charts holds the Helm charts of the mesh and renders them the way
// Helm does, so that the CLI, the injector and a user with Helm get the same
// objects.
//
// Usage:
//
//	chart, err := charts.Load(charts.ControlPlane)
//	values, err := chart.Defaults()
//	... change values ...
//	manifests, err := chart.Render(release, values)
//
// The charts are plain directories beside this file, embedded in the binary. A
// loaded Chart is immutable; Render may be called from any number of
// goroutines.
package charts

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/valueschema"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

//go:generate go run ./gen

// Names of the charts (CLI chapter, section 10.1).
const (
	ControlPlane = "linkerd-control-plane"
	CRDs         = "linkerd-crds"
	CNI          = "linkerd2-cni"
	SMI          = "linkerd-smi"
	// Single is the one chart that releases up to 2.11 had.
	Single = "linkerd2"
	Patch  = "patch"
)

// partials is the library chart that every other chart depends on.
const partials = "partials"

// ServiceCLI is Release.Service of a render by the CLI; only then do charts
// make their own namespace (CLI chapter, section 2.4).
const ServiceCLI = "CLI"

// ErrUnknown says that no chart has the wanted name.
var ErrUnknown = errors.New("unknown chart")

// The patterns take every chart that is there, including files whose names
// begin with an underscore.
//
//go:embed */Chart.yaml */requirements*.yaml */values*.yaml */values.schema.json all:*/templates
var files embed.FS

// Chart is one loaded chart together with its library.
type Chart struct {
	name   string
	loaded *chart.Chart
	ha     map[string]any
}

// Release is what templates see of the release they are rendered for.
type Release struct {
	// Name of the release.
	Name string
	// Namespace the release is installed into.
	Namespace string
	// Service that renders: ServiceCLI, or Helm's own name when empty.
	Service string
}

// Manifest is one rendered template.
type Manifest struct {
	// Path of the template inside its chart, for instance templates/config.yaml.
	Path string
	// Content is YAML, zero or more documents.
	Content string
}

// Load returns the chart of that name.
func Load(name string) (*Chart, error) {
	own, err := read(name)
	if err != nil {
		return nil, err
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("%w %q", ErrUnknown, name)
	}
	if name == Single {
		if own, err = joined(own); err != nil {
			return nil, err
		}
	}
	library, err := read(partials)
	if err != nil {
		return nil, err
	}
	// A packaged chart carries its dependencies in a folder charts/.
	for _, f := range library {
		own = append(own, &loader.BufferedFile{Name: path.Join("charts", partials, f.Name), Data: f.Data})
	}
	loaded, err := loader.LoadFiles(own)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	if err := chartutil.ProcessDependenciesWithMerge(loaded, map[string]any{}); err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	c := &Chart{name: name, loaded: loaded}
	for _, f := range own {
		if f.Name == "values-ha.yaml" {
			if err := yaml.Unmarshal(f.Data, &c.ha); err != nil {
				return nil, fmt.Errorf("chart %s: %s: %w", name, f.Name, err)
			}
		}
	}
	return c, nil
}

// joined adds the templates and values of the two charts that the single one
// was divided into. Their values have no key in common but linkerdVersion.
func joined(own []*loader.BufferedFile) ([]*loader.BufferedFile, error) {
	controlPlane, err := read(ControlPlane)
	if err != nil {
		return nil, err
	}
	crds, err := read(CRDs)
	if err != nil {
		return nil, err
	}
	for _, f := range controlPlane {
		if f.Name != chartutil.ChartfileName {
			own = append(own, f)
		}
	}
	for i, f := range own {
		if f.Name == chartutil.SchemafileName {
			own[i], err = bothSchemas(f, crds)
			if err != nil {
				return nil, err
			}
		}
	}
	for _, f := range crds {
		if rest, ok := strings.CutPrefix(f.Name, chartutil.TemplatesDir+"/"); ok {
			own = append(own, &loader.BufferedFile{Name: path.Join(chartutil.TemplatesDir, "crds", rest), Data: f.Data})
		}
	}
	return own, nil
}

// bothSchemas is a chart's schema with what that of another chart, among its
// files, says beyond it.
func bothSchemas(schema *loader.BufferedFile, other []*loader.BufferedFile) (*loader.BufferedFile, error) {
	joined := map[string]any{}
	if err := json.Unmarshal(schema.Data, &joined); err != nil {
		return nil, fmt.Errorf("%s: %w", schema.Name, err)
	}
	for _, f := range other {
		if f.Name != schema.Name {
			continue
		}
		more := map[string]any{}
		if err := json.Unmarshal(f.Data, &more); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		joined = valuetree.WithDefaults(joined, more)
	}
	data, err := json.MarshalIndent(joined, "", "  ")
	return &loader.BufferedFile{Name: schema.Name, Data: data}, err
}

func read(name string) ([]*loader.BufferedFile, error) {
	var out []*loader.BufferedFile
	err := fs.WalkDir(files, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		out = append(out, &loader.BufferedFile{Name: strings.TrimPrefix(p, name+"/"), Data: data})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return out, err
}

// Defaults returns a fresh copy of the chart's values, with the version of
// this build where the chart asks for one. The caller may change it.
func (c *Chart) Defaults() (map[string]any, error) {
	values, err := valuetree.Copy(c.loaded.Values)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", c.name, err)
	}
	if _, ok := values["linkerdVersion"]; ok {
		values["linkerdVersion"] = version.Current()
	}
	return values, nil
}

// Mentions reports whether a template of the chart or of its library reads a
// value with the path's last key: at the top of the tree if the path is that key
// alone, else wherever it stands below.
func (c *Chart) Mentions(path string) bool {
	before := `Values\.`
	key := path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		before, key = `[."]`, path[i+1:]
	}
	read := regexp.MustCompile(before + regexp.QuoteMeta(key) + `\b`)
	for _, part := range append(c.loaded.Dependencies(), c.loaded) {
		for _, t := range part.Templates {
			if read.Match(t.Data) {
				return true
			}
		}
	}
	return false
}

// Misfits returns the values that the chart's schema refuses, sorted by path. A
// part of the values may be looked at alone.
func (c *Chart) Misfits(values map[string]any) ([]valueschema.Misfit, error) {
	if len(c.loaded.Schema) == 0 {
		return nil, nil
	}
	misfits, err := valueschema.Check(c.loaded.Schema, values)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", c.name, err)
	}
	return misfits, nil
}

// HighAvailability returns a fresh copy of the chart's values-ha.yaml, to be
// laid over other values; empty when the chart has none.
func (c *Chart) HighAvailability() (map[string]any, error) {
	return valuetree.Copy(c.ha)
}

// Render renders every template of the chart with values laid over the chart's
// own. The result is sorted by path and leaves out templates that gave
// nothing. An error is a mistake in the values, told as by Misfits, or a refusal
// by a template, whose message it carries.
func (c *Chart) Render(release Release, values map[string]any) ([]Manifest, error) {
	options := chartutil.ReleaseOptions{
		Name:      release.Name,
		Namespace: release.Namespace,
		Revision:  1,
		IsInstall: true,
	}
	// The schema is looked at here, as Helm does, but for a message in words.
	top, err := chartutil.ToRenderValuesWithSchemaValidation(c.loaded, values, options, nil, true)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", c.name, err)
	}
	misfits, err := c.Misfits(top["Values"].(chartutil.Values))
	if err != nil {
		return nil, err
	}
	if len(misfits) > 0 {
		var errs []error
		for _, m := range misfits {
			errs = append(errs, m)
		}
		return nil, errors.Join(errs...)
	}
	if release.Service != "" {
		top["Release"].(map[string]any)["Service"] = release.Service
	}
	rendered, err := engine.Engine{}.Render(c.loaded, top)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", c.name, err)
	}
	var out []Manifest
	for name, content := range rendered {
		p := strings.TrimPrefix(name, c.loaded.Name()+"/")
		if strings.HasPrefix(path.Base(p), "_") || path.Ext(p) == ".txt" || strings.TrimSpace(content) == "" {
			continue
		}
		out = append(out, Manifest{Path: p, Content: content})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// Join writes manifests one after the other, each document introduced by a
// separator line and without blank lines around it. Templates named in first
// come first in that order, the rest follow by path; a name is a path below
// templates/ without extension, or a folder.
func Join(manifests []Manifest, first ...string) []byte {
	rank := func(p string) int {
		p = strings.TrimPrefix(p, "templates/")
		for i, name := range first {
			if p == name+".yaml" || strings.HasPrefix(p, name+"/") {
				return i
			}
		}
		return len(first)
	}
	sorted := append([]Manifest(nil), manifests...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := rank(sorted[i].Path), rank(sorted[j].Path)
		if a != b {
			return a < b
		}
		return sorted[i].Path < sorted[j].Path
	})
	var out bytes.Buffer
	for _, m := range sorted {
		content := strings.TrimSpace(m.Content)
		if !strings.HasPrefix(content, "---") {
			out.WriteString("---\n")
		}
		out.WriteString(content)
		out.WriteString("\n")
	}
	return out.Bytes()
}
