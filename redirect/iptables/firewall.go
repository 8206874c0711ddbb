package iptables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Errors by which callers tell that nothing was changed.
var (
	// ErrSave means that the existing rules could not be read.
	ErrSave = errors.New("aborting firewall configuration")
	// ErrNoPrograms means that no iptables is installed.
	ErrNoPrograms = errors.New("no complete pair of iptables programs (such as iptables and iptables-save) is on PATH")
)

// A Firewall runs iptables.
type Firewall struct {
	// Mode is the variant to use.
	Mode Mode
	// Wait makes each command wait for other users of the firewall.
	Wait bool
	// Log gets each command line and its output.
	Log *slog.Logger
	// Exec runs a program and returns all it printed; [Exec] outside of tests.
	Exec func(ctx context.Context, c Command) (string, error)
	// Have reports whether a program can be run; [Have] outside of tests.
	Have func(name string) bool
}

// Exec runs a program and returns what it printed. A process that is not root
// hands on the capabilities that firewall programs need.
func Exec(ctx context.Context, c Command) (string, error) {
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	if os.Geteuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Have reports whether a program is on PATH.
func Have(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// Apply gets the plan's rules in place, family by family. It stops at the first
// command that fails; rules of earlier commands then stay, as section 24.2 has
// it.
func (f *Firewall) Apply(ctx context.Context, plan rules.Plan) error {
	return f.each(ctx, plan, Commands)
}

// Remove takes the rules of a plan away. Of the plan only the families and the
// names of the chains matter.
func (f *Firewall) Remove(ctx context.Context, plan rules.Plan) error {
	return f.each(ctx, plan, RemoveCommands)
}

// Describe lists what Apply would run in a pod that has no rules yet.
func (f *Firewall) Describe(plan rules.Plan) []string {
	var out []string
	for _, fp := range plan.Families {
		tools, _ := Find(f.Mode, fp.Family, f.Have)
		for _, c := range Commands(fp, tools, "", f.Wait) {
			out = append(out, c.String())
		}
	}
	return out
}

func (f *Firewall) each(ctx context.Context, plan rules.Plan,
	commands func(rules.FamilyPlan, Tools, string, bool) []Command) error {
	// All programs are looked for before the first is run, so that lacking
	// some leaves everything as it was.
	tools := make([]Tools, len(plan.Families))
	for i, fp := range plan.Families {
		var err error
		if tools[i], err = f.tools(fp.Family); err != nil {
			return err
		}
	}
	for i, fp := range plan.Families {
		tools := tools[i]
		saved, err := f.run(ctx, SaveCommand(tools))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSave, err)
		}
		for _, c := range commands(fp, tools, saved, f.Wait) {
			if _, err := f.run(ctx, c); err != nil {
				return err
			}
		}
		// Only for the log: what is there now. Its failure changes nothing.
		if _, err := f.run(ctx, SaveCommand(tools)); err != nil {
			f.Log.Warn("cannot read the rules back", "error", err)
		}
	}
	return nil
}

// tools picks the programs and tells the user when they are not the wanted
// ones.
func (f *Firewall) tools(family rules.Family) (Tools, error) {
	tools, found := Find(f.Mode, family, f.Have)
	switch found {
	case "":
		return tools, fmt.Errorf("%w: wanted %s for %s", ErrNoPrograms, tools.Run, family)
	case f.Mode:
	default:
		f.Log.Warn("the wanted iptables programs are not on PATH, using others",
			"wanted", ToolsFor(f.Mode, family).Run, "using", tools.Run)
	}
	return tools, nil
}

func (f *Firewall) run(ctx context.Context, c Command) (string, error) {
	f.Log.Info(c.String())
	out, err := f.Exec(ctx, c)
	if text := strings.TrimRight(out, "\n"); text != "" {
		f.Log.Info(text)
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w", c, err)
	}
	return out, nil
}
