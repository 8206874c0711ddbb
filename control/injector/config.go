package injector

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Files are where the configuration is. Both are read for each review, so that a change counts from the next pod on.
type Files struct {
	// Values of the control plane's chart, YAML.
	Values string
	// TrustRoots are the trust anchors, PEM.
	TrustRoots string
}

// DefaultFiles are where the charts mount them.
var DefaultFiles = Files{Values: names.PathConfigValues, TrustRoots: names.PathTrustRoots}

// config reads the files. Reading is cheap and parsing is not, so what was parsed is kept as long as the file is the same.
type config struct {
	files Files
	// defaults are for what the configuration lacks.
	defaults map[string]any

	mu     sync.Mutex // guards text and values
	text   []byte
	values map[string]any
}

// load returns the values with the trust anchors in them. They are shared: the caller must not change them.
func (c *config) load() (map[string]any, error) {
	text, err := os.ReadFile(c.files.Values)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	anchors, err := os.ReadFile(c.files.TrustRoots)
	if err != nil {
		return nil, fmt.Errorf("reading the trust anchors: %w", err)
	}
	parsed, err := c.parse(text)
	if err != nil {
		return nil, err
	}
	// Only the top level is copied: everything below is shared.
	values := make(map[string]any, len(parsed)+1)
	for key, value := range parsed {
		values[key] = value
	}
	// The mounted bundle and not the one in the values: with an external CA only that one is current.
	values["identityTrustAnchorsPEM"] = string(anchors)
	return values, nil
}

func (c *config) parse(text []byte) (map[string]any, error) {
	c.mu.Lock()
	if c.values != nil && bytes.Equal(c.text, text) {
		defer c.mu.Unlock()
		return c.values, nil
	}
	c.mu.Unlock()
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("parsing the configuration %s: %w", c.files.Values, err)
	}
	values = valuetree.WithDefaults(values, c.defaults)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text, c.values = text, values
	return values, nil
}
