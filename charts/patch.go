package charts

import "errors"

// PatchRenderer returns a function that renders the patch chart for a control plane's namespace, as internal/inject wants
// it. The chart is loaded once; the function may be called from any number of goroutines.
func PatchRenderer(namespace string) (func(values map[string]any) ([]byte, error), error) {
	chart, err := Load(Patch)
	if err != nil {
		return nil, err
	}
	release := Release{Name: "linkerd", Namespace: namespace}
	return func(values map[string]any) ([]byte, error) {
		manifests, err := chart.Render(release, values)
		if err != nil {
			return nil, err
		}
		if len(manifests) != 1 {
			return nil, errors.New("the patch chart must render exactly one file")
		}
		return []byte(manifests[0].Content), nil
	}, nil
}
