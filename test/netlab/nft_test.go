package netlab_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// What the nft tool lists is what we say we put there, to the letter. So
// operators can read the rules, and the text of a simulation is the truth.
func TestNftToolListsWhatIsRendered(t *testing.T) {
	lab := netlab.New(t)
	tool, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("the nft tool, which this test compares with, is not installed")
	}
	all := options()
	all.SubnetsToIgnore = append(all.SubnetsToIgnore, "10.1.2.3/19", "192.0.2.1/32", "0.0.0.0/0", "fd00:1::/47")
	all.InboundPortsToIgnore = append(all.InboundPortsToIgnore, "0", "9001-9005", "9006", "80")
	all.PortsToRedirect = []int{8080}
	manyPorts := options()
	for i := range 3000 {
		manyPorts.OutboundPortsToIgnore = append(manyPorts.OutboundPortsToIgnore, fmt.Sprint(10000+2*i))
	}
	longest := options()
	longest.InboundPortsToIgnore = nil
	for i := range 15 {
		longest.InboundPortsToIgnore = append(longest.InboundPortsToIgnore, fmt.Sprint(60000+i*7))
	}
	injected := rules.Options{
		InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: 2102, ProxyGID: -1, IPv6: true,
		InboundPortsToIgnore:  []string{"4190", "4191", "4567", "4568"},
		OutboundPortsToIgnore: []string{"4567", "4568"},
	}
	for name, o := range map[string]rules.Options{
		"injected": injected, "all": all, "many ports": manyPorts, "longest comment": longest,
	} {
		t.Run(name, func(t *testing.T) {
			plan := build(t, o)
			if err := lab.Pod.Do(func() error { return nft.Apply(plan) }); err != nil {
				t.Fatal(err)
			}
			list := func() string {
				var out, diag bytes.Buffer
				cmd := exec.Command(tool, "--stateless", "list", "ruleset")
				cmd.Stdout, cmd.Stderr = &out, &diag
				if err := lab.Pod.Root().Run(cmd); err != nil {
					t.Fatalf("%v: %s", err, diag.String())
				}
				return unwrapSets(out.String())
			}
			if diff := cmp.Diff(nft.Render(plan), list()); diff != "" {
				t.Errorf("rendered (-) and listed (+) rules differ:\n%s", diff)
			}

			// The single statements that a simulation logs do the same.
			if err := lab.Pod.Do(nft.Remove); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(tool, "-f", "-")
			cmd.Stdin = strings.NewReader(strings.Join(nft.Statements(plan), "\n") + "\n")
			if err := lab.Pod.Root().Run(cmd); err != nil {
				t.Fatalf("run the statements: %v", err)
			}
			if diff := cmp.Diff(nft.Render(plan), list()); diff != "" {
				t.Errorf("rendered rules (-) and the statements' result (+) differ:\n%s", diff)
			}
			if err := lab.Pod.Do(nft.Remove); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// unwrapSets undoes the line breaks that the tool puts into sets.
func unwrapSets(listing string) string {
	var out []string
	open := false
	for line := range strings.SplitSeq(listing, "\n") {
		if open {
			out[len(out)-1] += " " + strings.TrimSpace(line)
		} else {
			out = append(out, line)
		}
		if strings.Contains(line, "{ ") {
			open = true
		}
		if strings.Contains(line, " }") {
			open = false
		}
	}
	return strings.Join(out, "\n")
}

func TestNftNeedsNetAdmin(t *testing.T) {
	lab := netlab.New(t)
	err := lab.Pod.As(appUID, appUID).Do(func() error { return nft.Apply(build(t, options())) })
	if !errors.Is(err, nft.ErrPermission) {
		t.Errorf("got %v, want an error that names the missing capability", err)
	}
}

// A transaction that fails in the middle leaves the old rules.
func TestNftApplyIsAllOrNothing(t *testing.T) {
	lab := netlab.New(t)
	bad := build(t, options())
	// The kernel refuses a chain name that is too long, late in the batch.
	bad.Families[1].Chains[1].Name = strings.Repeat("x", 300)
	err := lab.Pod.Do(func() error {
		if err := nft.Apply(build(t, options())); err != nil {
			return err
		}
		before, err := nft.Installed()
		if err != nil {
			return err
		}
		if err := nft.Apply(bad); err == nil {
			return errors.New("the bad plan was taken")
		}
		after, err := nft.Installed()
		if diff := cmp.Diff(before, after); diff != "" {
			return fmt.Errorf("a failed Apply changed the rules:\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
