package inject

import (
	"fmt"
	"io"
	"strings"

	"github.com/linkerd-go/linkerd-go/internal/inject"
)

const missingKind = `document missing "kind" field, skipped`

// warnMark and okMark begin the lines about problems, and about their absence.
const (
	warnMark = "‼"
	okMark   = "√"
)

// reporter writes the report of an injection (CLI chapter, section 3.5).
type reporter struct {
	// verbose also tells which problems there are not.
	verbose bool
	// terminal allows colours.
	terminal bool
}

func (p reporter) warn() string { return p.colour("33", warnMark) }
func (p reporter) ok() string   { return p.colour("32", okMark) }

func (p reporter) colour(code, mark string) string {
	if !p.terminal {
		return mark
	}
	return "\x1b[" + code + ";1m" + mark + "\x1b[0m"
}

func (p reporter) write(w io.Writer, results []result) {
	with := func(condition func(result) bool) []string {
		var list []string
		for _, r := range results {
			if r.considered && condition(r) {
				list = append(list, r.String())
			}
		}
		return list
	}
	hostNetwork := with(func(r result) bool { return r.facts.HostNetwork })
	sidecar := with(func(r result) bool { return r.facts.Sidecar })
	udp := with(func(r result) bool { return r.facts.UDP })
	disabled := with(func(r result) bool { return r.decision.Has(inject.ReasonDisabled) })
	noToken := with(func(r result) bool { return r.facts.NoToken })
	supported := false
	for _, r := range results {
		supported = supported || r.injected || r.annotatable
	}

	printed := p.verbose
	line := func(problem bool, warning, positive string) {
		switch {
		case problem:
			fmt.Fprintf(w, "%s %s\n", p.warn(), warning)
			printed = true
		case p.verbose:
			fmt.Fprintf(w, "%s %s\n", p.ok(), positive)
		}
	}
	// Apart from the documents, which a terminal shows above.
	fmt.Fprintln(w)
	line(len(hostNetwork) > 0, `"hostNetwork: true" detected in `+strings.Join(hostNetwork, ", "),
		"pods do not use host networking")
	line(len(sidecar) > 0, "known 3rd party sidecar detected in "+strings.Join(sidecar, ", "),
		"pods do not have a 3rd party proxy or initContainer already injected")
	line(len(disabled) > 0, `"linkerd.io/inject: disabled" annotation set on `+strings.Join(disabled, ", "),
		"pods are not annotated to disable injection")
	line(!supported, "no supported objects found",
		"at least one resource can be injected or annotated")
	verb := "uses"
	if len(udp) > 1 {
		verb = "use"
	}
	line(len(udp) > 0, strings.Join(udp, ", ")+" "+verb+` "protocol: UDP"`,
		"pod specs do not include UDP ports")
	if len(noToken) == 0 && p.verbose {
		fmt.Fprintf(w, "%s %s\n", p.ok(), `pods do not have automountServiceAccountToken set to "false" or service account token projection is enabled`)
	}
	for _, r := range results {
		for _, text := range r.warnings {
			fmt.Fprintf(w, "%s %s: %s\n", p.warn(), r, text)
			printed = true
		}
	}
	if printed {
		fmt.Fprintln(w)
	}
	for _, r := range results {
		switch {
		case r.kind == "":
			fmt.Fprintln(w, missingKind)
		case r.injected:
			fmt.Fprintf(w, "%s %q injected\n", r.kind, r.name)
		case r.annotated:
			fmt.Fprintf(w, "%s %q annotated\n", r.kind, r.name)
		default:
			fmt.Fprintf(w, "%s %q skipped\n", r.kind, r.name)
		}
	}
	// Apart from what kubectl prints behind a pipe.
	fmt.Fprintln(w)
}
