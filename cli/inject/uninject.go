package inject

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/inject"
)

// NewUninject returns the command uninject.
func NewUninject(w *command.World, _ *command.Globals) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "uninject [flags] CONFIG-FILE",
		Short: "Remove the Linkerd proxy from a Kubernetes config",
		Long: `Remove the Linkerd proxy from a Kubernetes config.

You can uninject resources contained in a single file, inside a folder and its
sub-folders, or coming from stdin.`,
		Example: `  # Uninject all the deployments in the default namespace.
  kubectl get deploy -o yaml | linkerd uninject - | kubectl apply -f -

  # Download a resource and uninject it through stdin.
  curl http://url.to/yml | linkerd uninject - | kubectl apply -f -

  # Uninject all the resources inside a folder and its sub-folders.
  linkerd uninject <folder> | kubectl apply -f -`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 {
				return errNoFile
			}
			if !command.OneOf(format, "yaml", "json") {
				return fmt.Errorf("unsupported format %s", format)
			}
			passedOver(w, args[1:])
			return run(w, args[0], format, uninjecter{})
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "yaml", "Output format, one of: json|yaml")
	return cmd
}

var errNoFile = errors.New("please specify a kubernetes resource file")

// uninjecter takes everything away that injection added.
type uninjecter struct{}

func (uninjecter) transform(object map[string]any) (map[string]any, result, error) {
	o, err := parse(object)
	if err != nil {
		return nil, result{}, err
	}
	r := result{kind: o.Kind, name: o.Name}
	if o.Known {
		r.uninjected = uninject(object, o)
	}
	return object, r, nil
}

func (uninjecter) report(w io.Writer, results []result) {
	fmt.Fprintln(w)
	for _, r := range results {
		switch {
		case r.kind == "":
			fmt.Fprintln(w, missingKind)
		case r.uninjected:
			fmt.Fprintf(w, "%s %q uninjected\n", r.kind, r.name)
		default:
			fmt.Fprintf(w, "%s %q skipped\n", r.kind, r.name)
		}
	}
	fmt.Fprintln(w)
}

// What injection adds, in this and in older releases.
var (
	addedInit       = []string{names.ContainerInit, names.ContainerProxy, names.ContainerNetworkValidator, names.ContainerDebug}
	addedContainers = []string{names.ContainerProxy, names.ContainerDebug}
	addedVolumes    = []string{names.VolumeIdentityEndEntity, names.VolumeIdentityToken, names.VolumeXtablesLock, names.VolumePodinfo}
)

// uninject takes everything away from an object that injection added, and reports whether there was a container or an
// annotation (CLI chapter, section 3.6). Annotations that configure a proxy stay: they are the user's.
func uninject(object map[string]any, parsed *inject.Object) bool {
	keep := parsed.IsControlPlane()
	changed := !keep && cleanMetadata(object)
	if parsed.Pod == nil {
		return changed
	}
	pod := object
	for _, key := range strings.Split(strings.Trim(parsed.Pod.Prefix, "/"), "/") {
		if key != "" {
			pod, _ = pod[key].(map[string]any)
		}
	}
	if parsed.Pod.Prefix != "" && !keep && cleanMetadata(pod) {
		changed = true
	}
	spec, _ := pod["spec"].(map[string]any)
	init := removeNamed(spec, "initContainers", addedInit)
	containers := removeNamed(spec, "containers", addedContainers)
	removeNamed(spec, "volumes", addedVolumes)
	return changed || init || containers
}

// cleanMetadata removes labels and annotations of ours, and reports whether there was an annotation.
func cleanMetadata(object map[string]any) bool {
	meta, _ := object["metadata"].(map[string]any)
	removeOurs(meta, "labels")
	return removeOurs(meta, "annotations")
}

func removeOurs(meta map[string]any, field string) bool {
	entries, _ := meta[field].(map[string]any)
	removed := false
	for key, value := range entries {
		if !strings.HasPrefix(key, "linkerd.io") || key == names.AnnotationInject && value == names.InjectDisabled {
			continue
		}
		delete(entries, key)
		removed = true
	}
	if field == "annotations" {
		text, _ := entries[inject.AnnotationEvictableVolumes].(string)
		if rest := inject.WithoutVolumes(text, addedVolumes); rest != text {
			entries[inject.AnnotationEvictableVolumes] = rest
			if rest == "" {
				delete(entries, inject.AnnotationEvictableVolumes)
			}
			removed = true
		}
	}
	if removed && len(entries) == 0 {
		delete(meta, field)
	}
	return removed
}

// removeNamed removes the elements of a list that have one of the names, and a list that is empty then.
func removeNamed(spec map[string]any, field string, unwanted []string) bool {
	list, _ := spec[field].([]any)
	kept := slices.DeleteFunc(slices.Clone(list), func(item any) bool {
		o, _ := item.(map[string]any)
		name, _ := o["name"].(string)
		return slices.Contains(unwanted, name)
	})
	if len(kept) == len(list) {
		return false
	}
	spec[field] = kept
	if len(kept) == 0 {
		delete(spec, field)
	}
	return true
}
