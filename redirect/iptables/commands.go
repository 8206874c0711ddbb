// Package iptables puts a redirection plan into the kernel by running the
// iptables programs of the place it runs in.
//
// It is for users who asked for a mode other than nft: a node whose firewall is
// kept by a certain iptables variant and shall stay that way. [Find] picks the
// programs, [Commands] decides the command lines, and [Firewall] runs them. The
// commands are those of the proxy chapter, section 24.2, in its order.
//
// Commands and Find have no effects of their own; a Firewall runs programs in
// the network namespace of the calling thread, one at a time.
package iptables

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// A Mode says which variant of iptables is meant.
type Mode string

// The modes that users can choose (proxy chapter, section 24.1).
const (
	// Legacy is the variant that has its own tables in the kernel.
	Legacy Mode = "legacy"
	// NFT is the variant that writes nftables rules.
	NFT Mode = "nft"
	// Plain is whatever the system calls iptables.
	Plain Mode = "plain"
)

// Tools are the programs for one address family.
type Tools struct {
	// Run changes rules.
	Run string
	// Save prints rules.
	Save string
}

// ToolsFor names the programs of a mode.
func ToolsFor(m Mode, f rules.Family) Tools {
	name := "iptables"
	if f == rules.IPv6 {
		name = "ip6tables"
	}
	if m == Legacy || m == NFT {
		name += "-" + string(m)
	}
	return Tools{Run: name, Save: name + "-save"}
}

// fallbacks is the order in which other modes are tried.
var fallbacks = []Mode{NFT, Plain, Legacy}

// Find returns the programs of the wanted mode if have knows both of them, else
// the first complete pair of another mode. The mode that was found is returned
// too, so that the caller can tell the user; it is empty, and the tools are
// those that were wanted, if there is no complete pair at all. Section 24.2
// would then run them all the same and fail; the caller here can do better.
func Find(want Mode, f rules.Family, have func(name string) bool) (Tools, Mode) {
	for _, m := range append([]Mode{want}, fallbacks...) {
		tools := ToolsFor(m, f)
		if have(tools.Run) && have(tools.Save) {
			return tools, m
		}
	}
	return ToolsFor(want, f), ""
}

// A Command is a program and its arguments.
type Command struct {
	Name string
	Args []string
}

// String writes the command the way one would type it.
func (c Command) String() string { return strings.Join(append([]string{c.Name}, c.Args...), " ") }

// SaveCommand is the command that prints the table in which the rules are.
func SaveCommand(t Tools) Command { return Command{Name: t.Save, Args: []string{"-t", "nat"}} }

// Commands returns what has to be run to get one family's rules in place, in
// order. saved is the output of [SaveCommand]: chains and jumps that are there
// already are used again, so that a second run does not double anything.
func Commands(f rules.FamilyPlan, t Tools, saved string, wait bool) []Command {
	var out []Command
	add := func(args ...string) { out = append(out, natCommand(t, wait, args)) }
	for _, c := range f.Chains {
		if hasChain(saved, c.Name) {
			add("-F", c.Name)
		} else {
			add("-N", c.Name)
		}
		for _, r := range c.Rules {
			add(ruleArgs(c.Name, r)...)
		}
		if !hasJump(saved, c) {
			add("-A", c.Hook.String(), "-j", c.Name, "-m", "comment", "--comment", c.JumpComment)
		}
	}
	return out
}

// RemoveCommands returns what has to be run to undo [Commands], given what is
// there.
func RemoveCommands(f rules.FamilyPlan, t Tools, saved string, wait bool) []Command {
	var out []Command
	add := func(args ...string) { out = append(out, natCommand(t, wait, args)) }
	for _, c := range f.Chains {
		if hasJump(saved, c) {
			add("-D", c.Hook.String(), "-j", c.Name, "-m", "comment", "--comment", c.JumpComment)
		}
	}
	for _, c := range f.Chains {
		if hasChain(saved, c.Name) {
			add("-F", c.Name)
			add("-X", c.Name)
		}
	}
	return out
}

func natCommand(t Tools, wait bool, args []string) Command {
	args = append([]string{"-t", "nat"}, args...)
	if wait {
		// Wait for the lock of another iptables instead of failing.
		args = append(args, "-w")
	}
	return Command{Name: t.Run, Args: args}
}

func ruleArgs(chain string, r rules.Rule) []string {
	args := []string{"-A", chain}
	m := r.Match
	switch {
	case m.TCP || len(m.DstPorts) > 0:
		args = append(args, "-p", "tcp")
	case m.Src.IsValid() || m.Dst.IsValid():
		args = append(args, "-p", "all")
	}
	if m.UID != 0 {
		args = append(args, "-m", "owner", "--uid-owner", strconv.FormatUint(uint64(m.UID), 10))
	}
	if m.GID != 0 {
		args = append(args, "-m", "owner", "--gid-owner", strconv.FormatUint(uint64(m.GID), 10))
	}
	if m.OutInterface != "" {
		args = append(args, "-o", m.OutInterface)
	}
	if m.Src.IsValid() {
		args = append(args, "-s", m.Src.String())
	}
	if m.Dst.IsValid() {
		args = append(args, "-d", m.Dst.String())
	}
	if len(m.DstPorts) > 0 {
		if r.Action.IsReturn() {
			args = append(args, "--match", "multiport", "--dports", rules.JoinPorts(m.DstPorts))
		} else {
			args = append(args, "--destination-port", m.DstPorts[0].String())
		}
	}
	if r.Action.IsReturn() {
		args = append(args, "-j", "RETURN")
	} else {
		args = append(args, "-j", "REDIRECT", "--to-port", strconv.Itoa(r.Action.RedirectTo))
	}
	return append(args, "-m", "comment", "--comment", r.Comment)
}

// hasChain looks for a chain's declaration, ":NAME - [0:0]".
func hasChain(saved, name string) bool {
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, ":"+name+" ") {
			return true
		}
	}
	return false
}

// hasJump looks for the rule that leads from the hook to the chain.
func hasJump(saved string, c rules.Chain) bool {
	from := fmt.Sprintf("-A %s ", c.Hook)
	for line := range strings.Lines(saved) {
		if !strings.HasPrefix(line, from) {
			continue
		}
		words := strings.Fields(line)
		for i := 1; i < len(words); i++ {
			if words[i-1] == "-j" && words[i] == c.Name {
				return true
			}
		}
	}
	return false
}
