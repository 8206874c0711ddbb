package doc

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

func TestReference(t *testing.T) {
	r := commandtest.New(t, nil)
	root := &cobra.Command{Use: "linkerd"}
	root.PersistentFlags().StringP("linkerd-namespace", "L", "linkerd", "Namespace of the control plane")
	run := func(*cobra.Command, []string) {}
	viz := &cobra.Command{Use: "viz", Short: "Metrics", Run: run}
	stat := &cobra.Command{Use: "stat [flags]", Short: "Numbers", Long: "Numbers of resources.", Example: "linkerd viz stat", Run: run}
	stat.Flags().String("window", "1m", "Time")
	stat.Flags().String("secret", "", "not for users")
	_ = stat.Flags().MarkHidden("secret")
	viz.AddCommand(stat)
	root.AddCommand(viz, &cobra.Command{Use: "old", Hidden: true, Run: run}, New(r.World, &command.Globals{}))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs([]string{"doc"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	comment, _, _ := strings.Cut(r.Out.String(), "\n")
	if !strings.HasPrefix(comment, "# ") {
		t.Errorf("the first line is %q", comment)
	}
	var got reference
	if err := yaml.UnmarshalStrict(r.Out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, e := range got.CLIReference {
		commands = append(commands, e.Name)
	}
	if want := []string{"viz", "viz stat"}; !slices.Equal(commands, want) {
		t.Fatalf("the commands are %q, want %q", commands, want)
	}
	e := got.CLIReference[1]
	if len(e.Options) != 1 || e.Options[0] != (option{"window", "", "1m", "Time"}) {
		t.Errorf("the options are %v", e.Options)
	}
	if len(e.InheritedOptions) != 1 || e.InheritedOptions[0].Shorthand != "L" || e.Description != "Numbers of resources." || e.Example != "linkerd viz stat" {
		t.Errorf("viz stat is %+v", e)
	}
}

// TestAnnotations holds the reference to what the injector reads.
func TestAnnotations(t *testing.T) {
	told := map[string]bool{}
	for _, a := range annotations {
		if told[a.Name] || a.Description == "" {
			t.Errorf("%s is there twice, or without a word", a.Name)
		}
		told[a.Name] = true
	}
	for _, name := range slices.Concat(names.InheritableAnnotations(), names.PodOnlyAnnotations()) {
		if !told[name] {
			t.Errorf("%s is not in the reference", name)
		}
	}
}
