package netlab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/redirect/xtables"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// The legacy tables as we write them are, to iptables itself, the same as if it
// had written them, and rules of others stay as they were.
func TestXtablesEqualsIptables(t *testing.T) {
	ours, theirs := netlab.New(t), netlab.New(t)
	for _, tool := range []string{"iptables-legacy", "iptables-legacy-save", "ip6tables-legacy", "ip6tables-legacy-save"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s, which this test compares with, is not installed", tool)
		}
	}
	run := func(lab *netlab.Lab, line string) string {
		var out bytes.Buffer
		words := strings.Fields(line)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := lab.Pod.Root().Run(cmd); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out.String())
		}
		return out.String()
	}
	save := func(lab *netlab.Lab) string {
		out := run(lab, "iptables-legacy-save -t nat") + run(lab, "ip6tables-legacy-save -t nat")
		out = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(out, "")
		return regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(out, "[0:0]")
	}

	foreign := []string{
		"-N BEFORE",
		"-A BEFORE -p tcp --dport 1 -j ACCEPT",
		"-A OUTPUT -p udp --dport 53",
		"-A OUTPUT -j BEFORE",
		"-N ZLAST",
		"-A BEFORE -p tcp -m multiport --dports 5,6:7 -g ZLAST",
		"-A ZLAST -m limit --limit 5/min -j RETURN",
		"-A PREROUTING -i eth0 ! -p tcp -j ZLAST",
		"-P POSTROUTING ACCEPT",
	}
	for _, lab := range []*netlab.Lab{ours, theirs} {
		for _, tool := range []string{"iptables-legacy", "ip6tables-legacy"} {
			for _, line := range foreign {
				run(lab, tool+" -t nat "+line)
			}
		}
	}
	untouched := save(ours)

	o := options()
	o.PortsToRedirect = []int{80, 8080}
	plan := build(t, o)
	firewall := &iptables.Firewall{
		Mode: iptables.Legacy,
		Log:  slog.New(slog.NewTextHandler(io.Discard, nil)),
		Have: iptables.Have,
		Exec: iptables.Exec,
	}
	for _, again := range []string{"first run", "second run"} {
		if err := ours.Pod.Do(func() error { return xtables.Apply(plan) }); err != nil {
			t.Fatal(err)
		}
		if err := theirs.Pod.Do(func() error { return firewall.Apply(context.Background(), plan) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(save(theirs), save(ours)); diff != "" {
			t.Errorf("%s: iptables' table (-) and ours (+) differ:\n%s", again, diff)
		}
	}

	// Each cleans up after itself, and after the other.
	if err := ours.Pod.Do(func() error { return firewall.Remove(context.Background(), plan) }); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Pod.Do(xtables.Remove); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(untouched, save(ours)); diff != "" {
		t.Errorf("iptables' removal leaves a difference:\n%s", diff)
	}
	if diff := cmp.Diff(untouched, save(theirs)); diff != "" {
		t.Errorf("our removal leaves a difference:\n%s", diff)
	}
}

func TestXtablesNeedsNetAdmin(t *testing.T) {
	lab := netlab.New(t)
	err := lab.Pod.As(appUID, appUID).Do(func() error { return xtables.Apply(build(t, options())) })
	if !errors.Is(err, xtables.ErrPermission) {
		t.Errorf("got %v, want an error that names the missing capability", err)
	}
}

// programs is the backend of mode plain, if the machine has the programs.
func programs(mode iptables.Mode) *backend {
	firewall := &iptables.Firewall{
		Mode: mode,
		Log:  slog.New(slog.NewTextHandler(io.Discard, nil)),
		Have: iptables.Have,
		Exec: iptables.Exec,
	}
	tools := iptables.ToolsFor(mode, rules.IPv4)
	if !iptables.Have(tools.Run) || !iptables.Have(tools.Save) {
		return nil
	}
	return &backend{
		name:  "iptables programs " + string(mode),
		apply: func(p rules.Plan) error { return firewall.Apply(context.Background(), p) },
	}
}

// The commands that users of iptables programs get behave as the rest does.
func TestPrograms(t *testing.T) {
	for _, mode := range []iptables.Mode{iptables.NFT, iptables.Legacy, iptables.Plain} {
		t.Run(string(mode), func(t *testing.T) {
			lab := newLab(t)
			b := programs(mode)
			if b == nil {
				t.Skipf("the programs of mode %s are not installed", mode)
			}
			for range 2 {
				if err := lab.Pod.Do(func() error { return b.apply(build(t, options())) }); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range redirected {
				t.Run(d.name, func(t *testing.T) {
					d.check(t, lab, rules.IPv4)
					d.check(t, lab, rules.IPv6)
				})
			}
		})
	}
}
