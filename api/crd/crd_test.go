package crd_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/crd"
	"github.com/linkerd-go/linkerd-go/api/crd/gatewayapi"
	"github.com/linkerd-go/linkerd-go/api/crd/scheme"
)

var definitionScheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	install.Install(s)
	return s
}()

// load reads the definitions of a file system, as the API server sees them after defaulting.
func load(t *testing.T, files fs.FS) []*apiextensions.CustomResourceDefinition {
	t.Helper()
	var definitions []*apiextensions.CustomResourceDefinition
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		var external apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &external); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		definitionScheme.Default(&external)
		internal := &apiextensions.CustomResourceDefinition{}
		if err := definitionScheme.Convert(&external, internal, nil); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		definitions = append(definitions, internal)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return definitions
}

// The API server accepts each definition: it is structural, its defaults are valid, and its
// rules compile within the cost limit.
func TestDefinitionsAreValid(t *testing.T) {
	for name, files := range map[string]fs.FS{"mesh": crd.Files, "gateway": gatewayapi.Files} {
		for _, definition := range load(t, files) {
			t.Run(name+"/"+definition.Name, func(t *testing.T) {
				// The API server fills it in from the versions.
				for _, v := range definition.Spec.Versions {
					if v.Storage {
						definition.Status.StoredVersions = []string{v.Name}
					}
				}
				for _, err := range validation.ValidateCustomResourceDefinition(t.Context(), definition) {
					t.Error(err)
				}
			})
		}
	}
}

// Definitions can be applied by `kubectl apply`, which keeps what it applied in an annotation:
// annotations may have 256 KiB together, of which some is left for others.
func TestDefinitionsFitAnnotation(t *testing.T) {
	const limit = 200 << 10
	for name, files := range map[string]fs.FS{"mesh": crd.Files, "gateway": gatewayapi.Files} {
		err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(files, path)
			if err != nil {
				return err
			}
			compact, err := yaml.YAMLToJSON(content)
			if err != nil {
				return err
			}
			if len(compact) > limit {
				t.Errorf("%s %s has %d bytes, more than %d", name, path, len(compact), limit)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What users see of each kind, apart from its fields, is as testdata/overview.txt lists it.
func TestOverview(t *testing.T) {
	content, err := os.ReadFile("testdata/overview.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	var got []string
	for _, d := range load(t, crd.Files) {
		line := d.Name + " " + string(d.Spec.Scope)
		if len(d.Spec.Names.ShortNames) > 0 {
			line += " short=" + strings.Join(d.Spec.Names.ShortNames, ",")
		}
		if len(d.Spec.Names.Categories) > 0 {
			line += " categories=" + strings.Join(d.Spec.Names.Categories, ",")
		}
		got = append(got, line)
		for _, v := range d.Spec.Versions {
			got = append(got, versionLine(d, v))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("not listed: %s", line)
		}
	}
}

func versionLine(d *apiextensions.CustomResourceDefinition, v apiextensions.CustomResourceDefinitionVersion) string {
	line := d.Name + "/" + v.Name
	if v.Served {
		line += " served"
	}
	if v.Storage {
		line += " storage"
	}
	if v.Deprecated {
		line += " deprecated"
	}
	if v.Subresources != nil && v.Subresources.Status != nil || d.Spec.Subresources != nil && d.Spec.Subresources.Status != nil {
		line += " status"
	}
	columns := v.AdditionalPrinterColumns
	if columns == nil {
		columns = d.Spec.AdditionalPrinterColumns
	}
	for _, c := range columns {
		// Without other columns the API server shows the age.
		if len(columns) > 1 || c.Name != "Age" {
			line += fmt.Sprintf(" [%s %s]", c.Name, c.JSONPath)
		}
	}
	return line
}

// A kind is one version of a definition, ready to handle objects.
type kind struct {
	schema    *structuralschema.Structural
	validator apiservervalidation.SchemaValidator
	rules     *cel.Validator
}

func kinds(t *testing.T) map[schema.GroupVersionKind]*kind {
	t.Helper()
	found := map[schema.GroupVersionKind]*kind{}
	for _, d := range load(t, crd.Files) {
		for _, v := range d.Spec.Versions {
			props := v.Schema
			if props == nil {
				props = d.Spec.Validation
			}
			structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
			if err != nil {
				t.Fatal(err)
			}
			validator, _, err := apiservervalidation.NewSchemaValidator(props.OpenAPIV3Schema)
			if err != nil {
				t.Fatal(err)
			}
			found[schema.GroupVersionKind{Group: d.Spec.Group, Version: v.Name, Kind: d.Spec.Names.Kind}] = &kind{
				schema:    structural,
				validator: validator,
				rules:     cel.NewValidator(structural, true, celconfig.PerCallLimit),
			}
		}
	}
	return found
}

// admit does to an object what the API server does when it is created, without webhooks.
func (k *kind) admit(ctx context.Context, object map[string]any) field.ErrorList {
	pruning.Prune(object, k.schema, true)
	defaulting.Default(object, k.schema)
	errs := apiservervalidation.ValidateCustomResource(nil, object, k.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.schema, object)...)
	if len(errs) == 0 && k.rules != nil {
		ruleErrs, _ := k.rules.Validate(ctx, nil, k.schema, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, ruleErrs...)
	}
	return errs
}

// Each object of testdata/objects is admitted or not, as the comment above it says; and what
// is admitted decodes into the Go type and back without loss.
//
//	# accepted
//	# accepted: path = value     and after defaulting the path has this value
//	# rejected: text             with an error that contains the text
func TestObjects(t *testing.T) {
	all := kinds(t)
	types := runtime.NewScheme()
	if err := scheme.AddToScheme(types); err != nil {
		t.Fatal(err)
	}
	unused := map[schema.GroupVersionKind]bool{}
	for gvk := range all {
		unused[gvk] = true
	}
	files, err := filepath.Glob("testdata/objects/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, document := range strings.Split(string(content), "\n---\n") {
			t.Run(fmt.Sprintf("%s/%d", strings.TrimSuffix(filepath.Base(file), ".yaml"), i), func(t *testing.T) {
				object := decode(t, document)
				gvk := (&unstructured.Unstructured{Object: object}).GroupVersionKind()
				k := all[gvk]
				if k == nil {
					t.Fatalf("no definition of %s", gvk)
				}
				delete(unused, gvk)
				errs := k.admit(t.Context(), object)
				comment, _, _ := strings.Cut(document, "\n")
				verdict, detail, _ := strings.Cut(strings.TrimPrefix(comment, "# "), ": ")
				switch verdict {
				case "rejected":
					if len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), detail) {
						t.Errorf("got errors %v, want one with %q", errs, detail)
					}
				case "accepted":
					if len(errs) > 0 {
						t.Fatal(errs)
					}
					if path, value, found := strings.Cut(detail, " = "); found {
						checkValue(t, object, path, value)
					}
					checkType(t, types, gvk, object)
				default:
					t.Fatalf("no verdict in %q", comment)
				}
			})
		}
	}
	for gvk := range unused {
		t.Errorf("no object of %s in testdata", gvk)
	}
}

// decode reads an object with numbers as the API server has them.
func decode(t *testing.T, document string) map[string]any {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(raw, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func checkValue(t *testing.T, object map[string]any, path, want string) {
	t.Helper()
	var value any = object
	for _, part := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			var index int
			if _, err := fmt.Sscan(part, &index); err != nil || index >= len(v) {
				t.Fatalf("%s: no element %s", path, part)
			}
			value = v[index]
		default:
			t.Fatalf("%s: nothing at %s", path, part)
		}
	}
	if got := fmt.Sprint(value); got != want {
		t.Errorf("%s is %s, want %s", path, got, want)
	}
}

func checkType(t *testing.T, types *runtime.Scheme, gvk schema.GroupVersionKind, object map[string]any) {
	t.Helper()
	typed, err := types.New(gvk)
	if err != nil {
		t.Fatal(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, typed, true); err != nil {
		t.Fatal(err)
	}
	back, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed.DeepCopyObject())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"spec", "status"} {
		if object[part] == nil {
			continue
		}
		// As text, because a whole number may have come back as a floating-point one.
		got, err := json.Marshal(back[part])
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(object[part])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s does not survive decoding:\n got %s\nwant %s", part, got, want)
		}
	}
}

// The bundled Gateway API is the release that the constant says.
func TestGatewayVersion(t *testing.T) {
	definitions := load(t, gatewayapi.Files)
	if len(definitions) != 10 {
		t.Errorf("got %d definitions, want 10", len(definitions))
	}
	for _, d := range definitions {
		if got := d.Annotations["gateway.networking.k8s.io/bundle-version"]; got != gatewayapi.Version {
			t.Errorf("%s is of %s, want %s", d.Name, got, gatewayapi.Version)
		}
	}
}

// The experimental channel serves the versions that the controllers read.
func TestGatewayServes(t *testing.T) {
	files, err := fs.Sub(gatewayapi.Files, gatewayapi.Experimental)
	if err != nil {
		t.Fatal(err)
	}
	served := map[string][]string{}
	for _, d := range load(t, files) {
		for _, v := range d.Spec.Versions {
			if v.Served {
				served[d.Spec.Names.Plural] = append(served[d.Spec.Names.Plural], v.Name)
			}
		}
	}
	for plural, version := range map[string]string{"httproutes": "v1", "grpcroutes": "v1", "tlsroutes": "v1alpha2", "tcproutes": "v1alpha2", "referencegrants": "v1beta1"} {
		if !slices.Contains(served[plural], version) {
			t.Errorf("%s serves %v, want %s among them", plural, served[plural], version)
		}
	}
}
