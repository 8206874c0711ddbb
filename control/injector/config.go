package injector

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/inject"
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

// config reads the files. A content that cannot be used takes no effect: the last one that could be used stays, since a slip in an
// edit should not keep every pod of the cluster from being made. Before the first usable content there is nothing to stay with: what
// can be read is used all the same, so that pods whose annotations put it right are made, and what cannot is an error.
//
// Reading is cheap and trying is not, so what was tried is kept as long as the file is the same.
type config struct {
	files Files
	// defaults are for what the configuration lacks.
	defaults map[string]any
	// try says why values cannot be used, with which a pod would be denied that asks for nothing special.
	try func(values map[string]any) error
	// changed is told, from the goroutine of a review, when a content is refused, and when one is taken after that.
	changed func(notice)

	mu      sync.Mutex // guards what follows; held while values are tried, so that they are tried once
	values  content[map[string]any]
	anchors content[string]
}

// content is that of a file.
type content[T any] struct {
	// seen is the text that was tried last, refused why it is not in use.
	seen    string
	tried   bool
	refused error
	// good is what is in use: known to be usable, or at least there.
	good         T
	known, there bool
}

// take tries a text, unless it is the one that was tried last, and returns what is in use; the error is for when nothing is. It
// says, too, whether there is something to tell.
func (c *content[T]) take(r reading, parse func(text []byte) (T, error), try func(T) error) (good T, news bool, err error) {
	was := c.refused
	switch {
	case r.err != nil:
		// Not an edit: a volume that is being changed, or lost. The same text may come back.
		c.tried, c.refused, c.there = false, r.err, c.known
		news = was == nil && c.known
	case !c.tried || c.seen != string(r.text):
		c.seen, c.tried = string(r.text), true
		value, err := parse(r.text)
		there := err == nil
		if there {
			err = try(value)
		}
		if c.refused = err; err == nil || !c.known {
			c.good, c.known, c.there = value, err == nil, there
		}
		news = err != nil || was != nil
	}
	if !c.there {
		return c.good, news, c.refused
	}
	return c.good, news, nil
}

// load returns the values with the trust anchors in them. They are shared: the caller must not change them.
func (c *config) load() (map[string]any, error) {
	text, readErr := os.ReadFile(c.files.Values)
	if readErr != nil {
		readErr = fmt.Errorf("reading the configuration: %w", readErr)
	}
	roots, rootsErr := os.ReadFile(c.files.TrustRoots)
	if rootsErr != nil {
		rootsErr = fmt.Errorf("reading the trust anchors: %w", rootsErr)
	}
	parsed, anchors, news, err := c.take(reading{text, readErr}, reading{roots, rootsErr})
	for _, n := range news {
		c.changed(n)
	}
	if err != nil {
		return nil, err
	}
	// Only the top level is copied: everything below is shared.
	out := maps.Clone(parsed)
	// The mounted bundle and not the one in the values: with an external CA only that one is current.
	out["identityTrustAnchorsPEM"] = anchors
	return out, nil
}

// reading is what reading a file gave.
type reading struct {
	text []byte
	err  error
}

// notice is a change of whether a file is in use.
type notice struct {
	file    string
	refused error
	// kept says that an earlier content is in use instead.
	kept bool
}

func (c *config) take(values, roots reading) (parsed map[string]any, anchors string, news []notice, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	parsed, changed, err := c.values.take(values, c.parse, c.tryValues)
	if changed {
		news = append(news, notice{c.files.Values, c.values.refused, c.values.known})
	}
	if err != nil {
		return nil, "", news, err
	}
	anchors, changed, err = c.anchors.take(roots, parseAnchors, func(string) error { return nil })
	if changed {
		news = append(news, notice{c.files.TrustRoots, c.anchors.refused, c.anchors.known})
	}
	return parsed, anchors, news, err
}

// usable reports whether the files are in use as they were read last.
func (c *config) usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values.refused == nil && c.anchors.refused == nil
}

func (c *config) parse(text []byte) (map[string]any, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("parsing the configuration %s: %w", c.files.Values, err)
	}
	if len(values) == 0 {
		return nil, fmt.Errorf("the configuration %s is empty", c.files.Values)
	}
	return valuetree.WithDefaults(values, c.defaults), nil
}

func (c *config) tryValues(values map[string]any) error {
	if err := c.try(values); err != nil {
		return fmt.Errorf("the configuration %s cannot be used: %w", c.files.Values, err)
	}
	return nil
}

// parseAnchors refuses a bundle with which a proxy would trust nobody.
func parseAnchors(text []byte) (string, error) {
	if strings.TrimSpace(string(text)) == "" {
		return "", inject.ErrNoTrustAnchors
	}
	return string(text), nil
}

// plainPod is a pod that asks for nothing special.
const plainPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"plain"},"spec":{"containers":[{"name":"plain","image":"plain"}]}}`

// try injects into a plain pod.
func (h *Handler) try(values map[string]any) error {
	object, err := inject.Parse([]byte(plainPod))
	if err != nil {
		return err
	}
	trial := maps.Clone(values)
	trial["identityTrustAnchorsPEM"] = "anchors" // which are judged by themselves
	_, err = inject.Injection{
		Object: object, Origin: inject.Webhook, Namespace: h.options.Namespace, ControlPlaneNamespace: h.options.Namespace,
		Owner: inject.Owner{Kind: object.Kind, Name: object.Name}, Values: trial,
		CreatedBy: names.CreatedBy(names.CreatorProxyInjector, h.options.Version),
	}.Patch(h.options.Render)
	return err
}
