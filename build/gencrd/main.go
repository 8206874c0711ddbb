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
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-tools/pkg/crd"
	"sigs.k8s.io/controller-tools/pkg/deepcopy"
	"sigs.k8s.io/controller-tools/pkg/genall"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/build/generated"
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
	root, err := generated.ModuleDir(ctx, "")
	if err != nil {
		return err
	}
	want := generated.Files{}
	if err := generate(root, want); err != nil {
		return err
	}
	if err := bundleGateway(ctx, want); err != nil {
		return err
	}
	have, err := generated.Read(root, []string{kindsDir}, isGenerated)
	if err != nil {
		return err
	}
	if check {
		return generated.Check(have, want, "go run ./build/gencrd")
	}
	return generated.Write(root, have, want)
}

// generate adds deep copies and definitions to files.
func generate(root string, files generated.Files) error {
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
	files generated.Files
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
	set  generated.Files
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
func bundleGateway(ctx context.Context, files generated.Files) error {
	dir, err := generated.ModuleDir(ctx, gatewayModule)
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

// isGenerated says whether a file is ours to rewrite and to remove.
func isGenerated(name string) bool {
	if path.Base(name) == deepCopyFile {
		return true
	}
	inDir := path.Dir(name) == yamlDir || path.Dir(path.Dir(name)) == gatewayDir
	return inDir && path.Ext(name) == ".yaml"
}
