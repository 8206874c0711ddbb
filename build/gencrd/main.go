// Command gencrd generates what follows from the kinds under api/crd: deep copies, and the
// custom resource definitions in api/crd/yaml. It also refreshes the bundled Gateway API
// manifests in api/crd/gatewayapi from the module that go.mod names.
//
// Run it from anywhere inside the module:
//
//	go run ./build/gencrd          rewrite the files
//	go run ./build/gencrd -check   fail if that would change anything
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-tools/pkg/crd"
	"sigs.k8s.io/controller-tools/pkg/deepcopy"
	"sigs.k8s.io/controller-tools/pkg/genall"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/yaml"
)

// Directories, relative to the module root.
const (
	kindsDir   = "api/crd"
	yamlDir    = "api/crd/yaml"
	gatewayDir = "api/crd/gatewayapi"
)

// deepCopyFile is what the deep copy generator calls its files.
const deepCopyFile = "zz_generated.deepcopy.go"

// gatewayModule has the Gateway API manifests.
const gatewayModule = "sigs.k8s.io/gateway-api"

// gatewayFiles are the manifests that are bundled, in each channel: the routes that a mesh
// understands, and who may refer to what. Gateways belong to whoever runs them.
var gatewayFiles = []string{
	"gateway.networking.k8s.io_grpcroutes.yaml",
	"gateway.networking.k8s.io_httproutes.yaml",
	"gateway.networking.k8s.io_referencegrants.yaml",
	"gateway.networking.k8s.io_tcproutes.yaml",
	"gateway.networking.k8s.io_tlsroutes.yaml",
}

var gatewayChannels = []string{"experimental", "standard"}

func main() {
	check := flag.Bool("check", false, "compare with the files on disk instead of writing them")
	flag.Parse()
	if err := run(context.Background(), *check); err != nil {
		fmt.Fprintln(os.Stderr, "gencrd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	root, err := moduleDir(ctx, "")
	if err != nil {
		return err
	}
	want := fileSet{}
	if err := generate(root, want); err != nil {
		return err
	}
	if err := bundleGateway(ctx, want); err != nil {
		return err
	}
	have, err := readGenerated(root)
	if err != nil {
		return err
	}
	changed := diff(have, want)
	if check {
		if len(changed) > 0 {
			return fmt.Errorf("out of date, run `go run ./build/gencrd`: %s", strings.Join(changed, ", "))
		}
		return nil
	}
	for _, name := range changed {
		file := filepath.Join(root, filepath.FromSlash(name))
		content, ok := want[name]
		if !ok {
			// Its source is gone.
			if err := os.Remove(file); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A fileSet is the content of files by their slash-separated paths from the module root.
type fileSet map[string][]byte

// moduleDir is where a module lies; the empty name is the main module.
func moduleDir(ctx context.Context, module string) (string, error) {
	args := []string{"list", "-m", "-f", "{{.Dir}}"}
	if module != "" {
		args = append(args, module)
	}
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("finding module %q: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// generate adds deep copies and definitions to files.
func generate(root string, files fileSet) error {
	yes, no := true, false
	var copies genall.Generator = deepcopy.Generator{}
	var definitions genall.Generator = crd.Generator{
		AllowDangerousTypes:        &yes, // retry ratios are floating point in the API
		GenerateEmbeddedObjectMeta: &no,
		OmitToolVersion:            &yes,
	}
	generators := genall.Generators{&copies, &definitions}
	config := &packages.Config{Dir: root}
	runtime, err := generators.ForRootsWithConfig(config, "./"+kindsDir+"/...")
	if err != nil {
		return fmt.Errorf("loading the kinds: %w", err)
	}
	output := &capture{root: root, files: files}
	runtime.OutputRules = genall.OutputRules{Default: output}
	if failed := runtime.Run(); failed {
		return errors.New("the generators reported errors")
	}
	for name, content := range files {
		if path.Dir(name) != yamlDir {
			continue
		}
		if files[name], err = refine(content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// capture is an output rule that keeps what generators write.
type capture struct {
	root  string
	files fileSet
}

// Open implements genall.OutputRule.
func (c *capture) Open(pkg *loader.Package, name string) (io.WriteCloser, error) {
	dir := yamlDir
	if pkg != nil {
		rel, err := filepath.Rel(c.root, filepath.Dir(pkg.CompiledGoFiles[0]))
		if err != nil {
			return nil, err
		}
		dir = filepath.ToSlash(rel)
	}
	return &capturedFile{set: c.files, name: path.Join(dir, name)}, nil
}

type capturedFile struct {
	bytes.Buffer
	set  fileSet
	name string
}

func (f *capturedFile) Close() error {
	f.set[f.name] = f.Bytes()
	return nil
}

// refine states in a definition what markers cannot say.
func refine(content []byte) ([]byte, error) {
	var definition apiextensions.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &definition); err != nil {
		return nil, err
	}
	for i := range definition.Spec.Versions {
		version := &definition.Spec.Versions[i]
		refineSchema(version.Schema.OpenAPIV3Schema)
		if sub := version.Subresources; sub != nil && sub.Status == nil && sub.Scale == nil {
			version.Subresources = nil
		}
	}
	var out map[string]any
	raw, err := yaml.Marshal(definition)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	// The API server owns these.
	delete(out, "status")
	delete(out["metadata"].(map[string]any), "creationTimestamp")
	raw, err = yaml.Marshal(out)
	if err != nil {
		return nil, err
	}
	return append([]byte("# Generated by `go run ./build/gencrd`; do not edit.\n"), raw...), nil
}

func refineSchema(schema *apiextensions.JSONSchemaProps) {
	// The operators of a label selector are an open set in Kubernetes' own type. A selector
	// with another one can never be evaluated, so that it is better refused at once.
	if expressions, ok := schema.Properties["matchExpressions"]; ok && expressions.Items != nil {
		operator := expressions.Items.Schema.Properties["operator"]
		operator.Enum = []apiextensions.JSON{
			{Raw: []byte(`"In"`)}, {Raw: []byte(`"NotIn"`)},
			{Raw: []byte(`"Exists"`)}, {Raw: []byte(`"DoesNotExist"`)},
		}
		expressions.Items.Schema.Properties["operator"] = operator
	}
	for name, property := range schema.Properties {
		// Recursive types cannot be written as a schema; what markers leave as any value
		// inside `all` and `any` is a list of objects.
		if (name == "all" || name == "any") && property.Type == "" && property.XPreserveUnknownFields != nil {
			property.Type = "array"
			property.Items = &apiextensions.JSONSchemaPropsOrArray{Schema: &apiextensions.JSONSchemaProps{
				Type:                   "object",
				XPreserveUnknownFields: property.XPreserveUnknownFields,
			}}
			property.XPreserveUnknownFields = nil
		}
		refineSchema(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil {
		refineSchema(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		refineSchema(schema.AdditionalProperties.Schema)
	}
}

// bundleGateway adds the Gateway API manifests to files, with shorter descriptions.
func bundleGateway(ctx context.Context, files fileSet) error {
	dir, err := moduleDir(ctx, gatewayModule)
	if err != nil {
		return err
	}
	for _, channel := range gatewayChannels {
		for _, name := range gatewayFiles {
			content, err := os.ReadFile(filepath.Join(dir, "config", "crd", channel, name))
			if err != nil {
				return err
			}
			if content, err = shorten(content); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			files[path.Join(gatewayDir, channel, name)] = content
		}
	}
	return nil
}

// shorten cuts each description of a definition to its first paragraph. `kubectl apply` keeps
// what it applied in an annotation, which the API server limits to 256 KiB; with its full text
// the largest definition could only be applied on the server's side.
func shorten(content []byte) ([]byte, error) {
	var definition map[string]any
	if err := yaml.Unmarshal(content, &definition); err != nil {
		return nil, err
	}
	shortenDescriptions(definition)
	raw, err := yaml.Marshal(definition)
	if err != nil {
		return nil, err
	}
	return append([]byte("# Part of the Kubernetes Gateway API, with shorter descriptions; see ../NOTE.\n"), raw...), nil
}

func shortenDescriptions(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			// A property may itself be called description; then it is not a text.
			if text, ok := child.(string); ok && key == "description" {
				v[key], _, _ = strings.Cut(text, "\n\n")
				continue
			}
			shortenDescriptions(child)
		}
	case []any:
		for _, child := range v {
			shortenDescriptions(child)
		}
	}
}

// readGenerated returns the generated files that are on disk.
func readGenerated(root string) (fileSet, error) {
	files := fileSet{}
	err := fs.WalkDir(os.DirFS(root), kindsDir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() || !isGenerated(name) {
			return nil
		}
		files[name], err = os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		return err
	})
	return files, err
}

// isGenerated says whether a file is ours to rewrite and to remove.
func isGenerated(name string) bool {
	if path.Base(name) == deepCopyFile {
		return true
	}
	inDir := path.Dir(name) == yamlDir || path.Dir(path.Dir(name)) == gatewayDir
	return inDir && path.Ext(name) == ".yaml"
}

// diff returns the sorted names of the files that differ or exist on one side only.
func diff(have, want fileSet) []string {
	var names []string
	for name, content := range want {
		if old, ok := have[name]; !ok || !bytes.Equal(old, content) {
			names = append(names, name)
		}
	}
	for name := range have {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
