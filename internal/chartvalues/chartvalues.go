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

	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/strvals"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/valuetree"
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
		values = valuetree.Merge(values, layer)
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
