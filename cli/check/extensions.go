package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
)

const extensionLabel = "linkerd.io/extension"

func (s *state) extensions() health.Category {
	return health.Category{ID: "linkerd-extension-checks", Checks: []health.Check{{
		Description: "namespace configuration for extensions", Anchor: "l5d-extension-namespaces", Warning: true,
		Run: func(ctx context.Context) error {
			list, err := s.cluster.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: extensionLabel})
			if err != nil {
				return err
			}
			by := map[string][]string{}
			for _, ns := range list.Items {
				by[ns.Labels[extensionLabel]] = append(by[ns.Labels[extensionLabel]], ns.Name)
			}
			var bad []string
			for name, namespaces := range by {
				if len(namespaces) > 1 {
					sort.Strings(namespaces)
					bad = append(bad, fmt.Sprintf("label \"%s=%s\" is present on more than one namespace:\n\t\t* %s", extensionLabel, name, strings.Join(namespaces, "\n\t\t* ")))
				}
			}
			sort.Strings(bad)
			return bullets("some extensions have invalid configuration", bad)
		},
	}}}
}

// builtin extensions are commands of this program.
var builtin = map[string]bool{"viz": true, "multicluster": true, "smi": true}

// extension is one to check.
type extension struct {
	name string
	// path of the executable; for a built-in one it is this program.
	path string
	args []string
}

// runExtensions checks every extension that is installed, by running its
// command (CLI chapter, section 4.6).
func runExtensions(ctx context.Context, w *command.World, o *options, c *cluster.Cluster, cmd *cobra.Command, p *health.Printer, hints string) (bool, error) {
	list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: extensionLabel})
	if err != nil {
		return false, err
	}
	installed := map[string]bool{}
	for _, ns := range list.Items {
		installed[ns.Labels[extensionLabel]] = true
	}
	found, absent, err := findExtensions(ctx, w, cmd.Root(), installed)
	if err != nil {
		return false, err
	}
	success := true
	for _, e := range found {
		args := append(append([]string{}, e.args...), checkArguments(cmd)...)
		results, outcome := runExtension(ctx, w, e, args, hints)
		for _, r := range results {
			p.Observe(r)
		}
		if err := p.EndRun(outcome); err != nil {
			return false, err
		}
		success = success && outcome.Success
	}
	for _, name := range absent {
		p.Observe(health.Result{
			Category:    "linkerd-" + name,
			Description: fmt.Sprintf("Linkerd extension command linkerd-%s exists", name),
			Hint:        hints + "extensions",
			Err:         fmt.Errorf("exec: %q: executable file not found in $PATH", "linkerd-"+name),
			Warning:     true,
		})
		if err := p.EndRun(health.Outcome{Success: true, Warnings: true}); err != nil {
			return false, err
		}
	}
	return success, nil
}

// findExtensions returns what to run, built-in ones first, and which installed
// extensions have no command.
func findExtensions(ctx context.Context, w *command.World, root *cobra.Command, installed map[string]bool) (found []extension, absent []string, err error) {
	left := map[string]bool{}
	for name := range installed {
		left[name] = true
	}
	var external []extension
	seen := map[string]bool{}
	for _, dir := range filepath.SplitList(w.Getenv("PATH")) {
		paths, _ := filepath.Glob(filepath.Join(dir, "linkerd-*"))
		for _, path := range paths {
			file := filepath.Base(path)
			if seen[file] || !executable(path) {
				continue
			}
			seen[file] = true
			name := strings.TrimPrefix(file, "linkerd-")
			// The built-in command knows its extension better than a stale plugin.
			if builtin[name] && hasCommand(root, name) {
				continue
			}
			if left[name] || wantsAlways(ctx, w, path, file) {
				external = append(external, extension{name: name, path: path, args: []string{"check"}})
				delete(left, name)
			}
		}
	}
	sort.Slice(external, func(i, j int) bool { return filepath.Base(external[i].path) < filepath.Base(external[j].path) })
	for name := range builtin {
		if !left[name] || !hasCommand(root, name) {
			continue
		}
		self, err := w.Self()
		if err != nil {
			return nil, nil, err
		}
		found = append(found, extension{name: name, path: self, args: []string{name, "check"}})
		delete(left, name)
	}
	sort.Slice(found, func(i, j int) bool { return found[i].name < found[j].name })
	for name := range left {
		absent = append(absent, name)
	}
	sort.Strings(absent)
	return append(found, external...), absent, nil
}

// hasCommand reports whether this program can check an extension.
func hasCommand(root *cobra.Command, name string) bool {
	cmd, _, err := root.Find([]string{name, "check"})
	return err == nil && cmd.Name() == "check" && cmd.Parent() != root
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

func wantsAlways(ctx context.Context, w *command.World, path, file string) bool {
	var out bytes.Buffer
	if err := w.Exec(ctx, path, []string{"_extension-metadata"}, strings.NewReader(""), &out, new(bytes.Buffer)); err != nil {
		return false
	}
	var metadata struct{ Name, Checks string }
	return json.Unmarshal(out.Bytes(), &metadata) == nil && strings.EqualFold(metadata.Name, file) && metadata.Checks == "always"
}

// checkArguments hands the flags of this command on.
func checkArguments(cmd *cobra.Command) []string {
	var out []string
	for _, name := range []string{"api-addr", "context", "as", "as-group", "kubeconfig", "linkerd-namespace", "verbose", "namespace", "proxy", "wait"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || f.Value.String() == "" {
			continue
		}
		if name == "as-group" && f.Value.String() == "[]" {
			// An empty list given as a value would name a group "[]".
			continue
		}
		out = append(out, fmt.Sprintf("--%s=%s", name, f.Value))
	}
	return append(out, "--output=json")
}

func runExtension(ctx context.Context, w *command.World, e extension, args []string, hints string) ([]health.Result, health.Outcome) {
	var out, errs bytes.Buffer
	execErr := w.Exec(ctx, e.path, args, strings.NewReader(""), &out, &errs)
	results, outcome, err := health.ReadResults(out.Bytes())
	if err == nil {
		return results, outcome
	}
	line := strings.Join(append([]string{e.path}, args...), " ")
	reason := strings.TrimSpace(errs.String())
	if reason == "" && out.Len() == 0 && execErr != nil {
		reason = execErr.Error()
	}
	if reason == "" {
		reason = fmt.Sprintf("invalid extension check output from %q (JSON object expected):\n%s\n[%s]", line, out.String(), err)
	}
	return []health.Result{{
		Category:    filepath.Base(e.path),
		Description: "Running: " + line,
		Hint:        hints + "extensions",
		Err:         errors.New(reason),
	}}, health.Outcome{}
}
