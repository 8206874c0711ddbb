// Package chartvalues reads Helm values from the command line: the flags
// --values, --set, --set-string and --set-file, and the manifest output flag
// that goes with them.
//
// Values are nested maps as the Helm library has them. The package keeps no
// state; its functions may be called from any goroutine as long as no two
// change the same map.
package chartvalues

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/strvals"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Options are the value flags (CLI chapter, section 1.9).
type Options struct {
	Files      []string
	Sets       []string
	SetStrings []string
	SetFiles   []string
}

// Register adds the flags.
func (o *Options) Register(f *pflag.FlagSet) {
	f.StringSliceVarP(&o.Files, "values", "f", nil, "Specify values in a YAML file or a URL (can specify multiple)")
	f.StringArrayVar(&o.Sets, "set", nil, "Set values on the command line (can specify multiple or separate values with commas: key1=val1,key2=val2)")
	f.StringArrayVar(&o.SetStrings, "set-string", nil, "Set STRING values on the command line (can specify multiple or separate values with commas: key1=val1,key2=val2)")
	f.StringArrayVar(&o.SetFiles, "set-file", nil, "Set values from respective files specified via the command line (can specify multiple or separate values with commas: key1=path1,key2=path2)")
}

// Read merges everything given into one map: files from left to right, then
// set, set-string, set-file. read returns the content of a file, of standard
// input for "-", or of a URL.
func (o *Options) Read(read func(string) ([]byte, error)) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range o.Files {
		data, err := read(name)
		if err != nil {
			return nil, err
		}
		layer := map[string]any{}
		if err := yaml.Unmarshal(data, &layer); err != nil {
			return nil, fmt.Errorf("failed to parse %s: %w", name, err)
		}
		values = Merge(values, layer)
	}
	for _, s := range o.Sets {
		if err := strvals.ParseInto(s, values); err != nil {
			return nil, fmt.Errorf("failed parsing --set data: %w", err)
		}
	}
	for _, s := range o.SetStrings {
		if err := strvals.ParseIntoString(s, values); err != nil {
			return nil, fmt.Errorf("failed parsing --set-string data: %w", err)
		}
	}
	for _, s := range o.SetFiles {
		content := func(name []rune) (any, error) {
			data, err := read(string(name))
			return string(data), err
		}
		if err := strvals.ParseIntoFile(s, values, content); err != nil {
			return nil, fmt.Errorf("failed parsing --set-file data: %w", err)
		}
	}
	return values, nil
}

// Merge lays over on top of base, map by map, changes base and returns it. A
// null stays a null: Helm then drops the chart's own value.
func Merge(base, over map[string]any) map[string]any {
	for key, value := range over {
		overMap, ok := value.(map[string]any)
		baseMap, both := base[key].(map[string]any)
		if ok && both {
			base[key] = Merge(baseMap, overMap)
			continue
		}
		base[key] = value
	}
	return base
}

// Difference returns what has to be laid over base to get values: maps are
// compared key by key, everything else, lists too, as a whole. A key that only
// base has comes back as null.
func Difference(base, values map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		before, ok := base[key]
		if !ok {
			out[key] = value
			continue
		}
		beforeMap, isMap := before.(map[string]any)
		valueMap, both := value.(map[string]any)
		if isMap && both {
			if d := Difference(beforeMap, valueMap); len(d) > 0 {
				out[key] = d
			}
			continue
		}
		if !equal(before, value) {
			out[key] = value
		}
	}
	for key, before := range base {
		if _, ok := values[key]; !ok && before != nil {
			out[key] = nil
		}
	}
	return out
}

// equal compares scalars by what they mean in YAML: a flag gives an int64
// where a file gives a float64.
func equal(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	ya, errA := yaml.Marshal(a)
	yb, errB := yaml.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(ya, yb)
}

// Copy returns a deep copy made of the types a YAML file gives.
func Copy(values map[string]any) (map[string]any, error) {
	data, err := yaml.Marshal(values)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	err = yaml.Unmarshal(data, &out)
	return out, err
}

// Get returns the value at a path of keys joined by dots, nil when absent.
func Get(values map[string]any, path string) any {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := values[key].(map[string]any)
		if !ok {
			return nil
		}
		values = next
	}
	return values[keys[len(keys)-1]]
}

// String returns the value at path as text, empty when absent.
func String(values map[string]any, path string) string {
	switch v := Get(values, path).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// Bool returns the value at path; anything but true is false.
func Bool(values map[string]any, path string) bool {
	b, _ := Get(values, path).(bool)
	return b
}

// Set puts a value at path and makes the maps on the way.
func Set(values map[string]any, path string, value any) {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := values[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			values[key] = next
		}
		values = next
	}
	values[keys[len(keys)-1]] = value
}

// WriteManifest writes rendered YAML in the format of the -o flag: yaml as it
// is, json as one compact object per line (CLI chapter, section 1.8).
func WriteManifest(w io.Writer, manifest []byte, format string) error {
	switch format {
	case "yaml":
		_, err := w.Write(manifest)
		return err
	case "json":
		documents := utilyaml.NewYAMLReader(bufReader(manifest))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			object, err := yaml.YAMLToJSON(document)
			if err != nil {
				return err
			}
			if string(object) == "null" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s\n", object); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unsupported format %s", format)
	}
}

func bufReader(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }
