package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// Table is the name of the tables, one per address family, that hold the rules.
const Table = "linkerd"

// Render writes the plan in the language of the nft tool, in the form in which
// `nft --stateless list ruleset` prints it once it has been applied.
func Render(plan rules.Plan) string {
	var b strings.Builder
	for _, f := range plan.Families {
		fmt.Fprintf(&b, "table %s %s {\n", familyName(f.Family), Table)
		for i, line := range lines(f) {
			// A chain header opens a block; a blank line sets blocks apart.
			if line.chain {
				if i > 0 {
					b.WriteString("\t}\n\n")
				}
				fmt.Fprintf(&b, "\tchain %s {\n", line.text)
			} else {
				fmt.Fprintf(&b, "\t\t%s\n", line.text)
			}
		}
		b.WriteString("\t}\n}\n")
	}
	return b.String()
}

// Statements lists what Apply does as single lines, each a command of the nft
// tool, for logs and for simulation.
func Statements(plan rules.Plan) []string {
	var out []string
	for _, f := range plan.Families {
		table := familyName(f.Family) + " " + Table
		// Creating a table that exists is no error, deleting one that does
		// not is; so create first, and the table is surely new afterwards.
		out = append(out, "add table "+table, "delete table "+table, "add table "+table)
		chain := ""
		for _, line := range lines(f) {
			switch {
			case line.chain:
				chain = line.text
				if !line.base {
					out = append(out, "add chain "+table+" "+chain)
				}
			case line.spec:
				out = append(out, "add chain "+table+" "+chain+" { "+line.text+" }")
			default:
				out = append(out, "add rule "+table+" "+chain+" "+line.text)
			}
		}
	}
	return out
}

// A line is one line of a listing.
type line struct {
	text  string
	chain bool // text is the name of a chain that starts here
	base  bool // with chain: the chain is called from a hook
	spec  bool // text is a base chain's type and hook
}

// lines lists one family: first the chains with the rules, because a chain must
// exist before anything can jump to it, then the base chains.
func lines(f rules.FamilyPlan) []line {
	var out []line
	for _, c := range f.Chains {
		out = append(out, line{text: c.Name, chain: true})
		for _, r := range c.Rules {
			out = append(out, line{text: ruleText(f.Family, r)})
		}
	}
	for _, c := range f.Chains {
		out = append(out,
			line{text: c.Hook.String(), chain: true, base: true},
			line{text: hookText(c.Hook), spec: true},
			line{text: fmt.Sprintf("counter jump %s comment %q", c.Name, c.JumpComment)})
	}
	return out
}

func familyName(f rules.Family) string {
	if f == rules.IPv6 {
		return "ip6"
	}
	return "ip"
}

func hookText(h rules.Hook) string {
	if h == rules.Prerouting {
		return "type nat hook prerouting priority dstnat; policy accept;"
	}
	// The tool has no word for this priority in the output hook.
	return "type nat hook output priority -100; policy accept;"
}

func ruleText(f rules.Family, r rules.Rule) string {
	var words []string
	m := r.Match
	if m.UID != 0 {
		words = append(words, fmt.Sprintf("meta skuid %d", m.UID))
	}
	if m.GID != 0 {
		words = append(words, fmt.Sprintf("meta skgid %d", m.GID))
	}
	if m.OutInterface != "" {
		words = append(words, fmt.Sprintf("oifname %q", m.OutInterface))
	}
	if restricts(m.Src) {
		words = append(words, familyName(f)+" saddr "+prefixText(m.Src))
	}
	if restricts(m.Dst) {
		words = append(words, familyName(f)+" daddr "+prefixText(m.Dst))
	}
	switch ports := mergePorts(m.DstPorts); {
	case len(ports) > 1:
		texts := make([]string, len(ports))
		for i, p := range ports {
			texts[i] = portText(p)
		}
		words = append(words, "tcp dport { "+strings.Join(texts, ", ")+" }")
	case len(ports) == 1:
		words = append(words, "tcp dport "+portText(ports[0]))
	case m.TCP:
		words = append(words, "meta l4proto tcp")
	}
	words = append(words, "counter")
	if r.Action.IsReturn() {
		words = append(words, "return")
	} else {
		words = append(words, "redirect to :"+strconv.Itoa(r.Action.RedirectTo))
	}
	words = append(words, fmt.Sprintf("comment %q", clip(r.Comment)))
	return strings.Join(words, " ")
}

// restricts reports whether a network condition excludes any address.
func restricts(p netip.Prefix) bool { return p.IsValid() && p.Bits() > 0 }

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func portText(r rules.PortRange) string {
	if r.Single() {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// mergePorts sorts ranges and joins those that overlap or touch: the elements
// of a set in the kernel must be disjoint.
func mergePorts(ranges []rules.PortRange) []rules.PortRange {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b rules.PortRange) int { return int(a.First) - int(b.First) })
	var out []rules.PortRange
	for _, r := range sorted {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// maxComment is the longest comment that the nft tool shows; it refuses to list
// rules with a longer one.
const maxComment = 127

// clip shortens a comment that is too long. Only a subnet written with blanks
// or zeros in odd places could get there.
func clip(comment string) string {
	if len(comment) > maxComment {
		return comment[:maxComment]
	}
	return comment
}
