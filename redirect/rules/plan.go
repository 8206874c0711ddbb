package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Names of the chains that hold the rules (proxy chapter, section 24.2).
// Operators look for them, so they are the same whatever puts them in place.
const (
	// ChainInbound is reached by every packet that arrives in the pod.
	ChainInbound = "PROXY_INIT_REDIRECT"
	// ChainOutbound is reached by every packet that the pod sends.
	ChainOutbound = "PROXY_INIT_OUTPUT"
)

// commentPrefix opens the comment of every rule, so that an operator can tell
// the mesh's rules from others in one listing.
const commentPrefix = "proxy-init/"

// A Family is an address family. IPv4 and IPv6 have separate tables in the
// kernel, hence separate rule lists.
type Family uint8

// The families, in the order in which they are programmed.
const (
	IPv4 Family = iota + 1
	IPv6
)

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return "Family(" + strconv.Itoa(int(f)) + ")"
}

// A Hook is the place in the kernel's packet path from which a chain is called.
type Hook uint8

// The hooks in use. Both are in the nat table, where only the first packet of
// a connection is looked at.
const (
	// Prerouting sees packets that arrive.
	Prerouting Hook = iota + 1
	// Output sees packets made by local processes.
	Output
)

// String returns the hook's name as iptables spells it.
func (h Hook) String() string {
	switch h {
	case Prerouting:
		return "PREROUTING"
	case Output:
		return "OUTPUT"
	}
	return "Hook(" + strconv.Itoa(int(h)) + ")"
}

// A Plan is everything that has to be in the kernel for one pod.
type Plan struct {
	// Families holds one entry per address family to program, IPv4 first.
	Families []FamilyPlan

	// Skipped says which entries of the options were left out of the plan and
	// why. They are no reason to stop: a typo in one ignored port must not
	// keep a pod from starting. The caller logs them.
	Skipped []error
}

// A FamilyPlan is the part of a plan that concerns one address family.
type FamilyPlan struct {
	Family Family
	Chains []Chain
}

// A Chain is an ordered list of rules together with the hook that leads to it.
type Chain struct {
	Name string
	Hook Hook
	// JumpComment is the comment of the rule in the hook that jumps here.
	JumpComment string
	Rules       []Rule
}

// A Rule applies its action to the packets that meet its match. The first rule
// that matches decides.
type Rule struct {
	Match  Match
	Action Action
	// Comment is shown by every tool that lists rules, for example
	// "proxy-init/ignore-loopback".
	Comment string
}

// A Match is a set of conditions that must all hold. The zero value of each
// field means that there is no such condition.
type Match struct {
	// TCP restricts the rule to TCP.
	TCP bool
	// DstPorts restricts the rule to TCP packets for one of these ports, in
	// the order given by the user. It is set only together with TCP.
	DstPorts []PortRange
	// Src restricts the rule to packets from this network; it is already
	// masked and of the plan's family.
	Src netip.Prefix
	// Dst is like Src for the packet's destination.
	Dst netip.Prefix
	// UID restricts the rule to sockets opened by this user (0: any; a rule
	// for root itself is never wanted, section 24.1).
	UID uint32
	// GID is like UID for the group.
	GID uint32
	// OutInterface restricts the rule to packets leaving by this interface.
	OutInterface string
}

// An Action is what happens to a packet that a rule matches.
type Action struct {
	// RedirectTo, when not negative, sends the connection to this local port;
	// the socket there can ask for the original destination. When negative,
	// the packet leaves the chain untouched.
	RedirectTo int
}

// Return is the action that leaves a packet alone.
var Return = Action{RedirectTo: -1}

// Redirect returns the action that sends a connection to a local port.
func Redirect(port uint16) Action { return Action{RedirectTo: int(port)} }

// IsReturn reports whether the action leaves the packet alone.
func (a Action) IsReturn() bool { return a.RedirectTo < 0 }

// A PortRange is an inclusive range of ports; both ends are equal for a single
// port.
type PortRange struct {
	First, Last uint16
}

// Single reports whether the range is one port.
func (r PortRange) Single() bool { return r.First == r.Last }

// String writes the range the way iptables does: "80" or "80:90".
func (r PortRange) String() string {
	if r.Single() {
		return strconv.Itoa(int(r.First))
	}
	return strconv.Itoa(int(r.First)) + ":" + strconv.Itoa(int(r.Last))
}

// JoinPorts writes ranges as one comma-separated list.
func JoinPorts(ranges []PortRange) string {
	words := make([]string, len(ranges))
	for i, r := range ranges {
		words[i] = r.String()
	}
	return strings.Join(words, ",")
}

// String writes the plan as text, one rule per line. Tests compare it; people
// are better served by the text that the applying package renders.
func (p Plan) String() string {
	var b strings.Builder
	for _, f := range p.Families {
		fmt.Fprintf(&b, "%s\n", f.Family)
		for _, c := range f.Chains {
			fmt.Fprintf(&b, "  %s -> %s  # %s\n", c.Hook, c.Name, c.JumpComment)
			for _, r := range c.Rules {
				fmt.Fprintf(&b, "    %s\n", r)
			}
		}
	}
	for _, err := range p.Skipped {
		fmt.Fprintf(&b, "skipped: %s\n", err)
	}
	return b.String()
}

// String writes the rule as text.
func (r Rule) String() string {
	var words []string
	m := r.Match
	if m.UID != 0 {
		words = append(words, fmt.Sprintf("uid %d", m.UID))
	}
	if m.GID != 0 {
		words = append(words, fmt.Sprintf("gid %d", m.GID))
	}
	if m.OutInterface != "" {
		words = append(words, "out "+m.OutInterface)
	}
	if m.Src.IsValid() {
		words = append(words, "from "+m.Src.String())
	}
	if m.Dst.IsValid() {
		words = append(words, "to "+m.Dst.String())
	}
	if m.TCP {
		words = append(words, "tcp")
	}
	if len(m.DstPorts) > 0 {
		words = append(words, JoinPorts(m.DstPorts))
	}
	if len(words) == 0 {
		words = append(words, "any")
	}
	if r.Action.IsReturn() {
		words = append(words, "return")
	} else {
		words = append(words, fmt.Sprintf("redirect %d", r.Action.RedirectTo))
	}
	return strings.Join(words, " ") + "  # " + r.Comment
}
