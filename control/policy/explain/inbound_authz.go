package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

func sorted(servers []*core.Server) []*core.Server {
	return slices.SortedFunc(slices.Values(servers), func(a, b *core.Server) int { return cmp.Compare(a.Name, b.Name) })
}

func sortedPolicies(lookup core.Lookup, namespace string) []*core.AuthorizationPolicy {
	return slices.SortedFunc(slices.Values(lookup.AuthorizationPolicies(namespace)), func(a, b *core.AuthorizationPolicy) int { return cmp.Compare(a.Name, b.Name) })
}

// outcome is what a list of authorizations comes to.
type outcome struct {
	answer answer
	// by is the first that permits the client; zero if none surely does.
	by core.Authorization
	// open has those before it that perhaps permit the client.
	open []opening
}

// opening is an authorization that permits the client if something holds which the question leaves open.
type opening struct {
	by    Resource
	holds string
}

// or is the outcome of one list followed by another.
func (o outcome) or(next outcome) outcome {
	switch {
	case o.answer == yes || next.answer == no:
		return o
	case o.answer == no:
		return next
	}
	// Whether the first or the second lets the client in is open, that one of them does may be sure.
	return outcome{answer: next.answer, by: next.by, open: append(slices.Clone(o.open), next.open...)}
}

// judge says what a list of compiled authorizations means for the client, with a step for each.
func (q *inbound) judge(authorizations []core.Authorization) (outcome, []Step) {
	var o outcome
	var steps []Step
	for _, a := range authorizations {
		s, result := q.authorization(a)
		steps = append(steps, s)
		if result == maybe && o.answer != yes {
			o.open = append(o.open, opening{q.by(a), openText(s.Steps)})
		}
		if result == yes && o.answer != yes {
			o.by = a
		}
		o.answer = max(o.answer, result)
	}
	return o, steps
}

// openText joins what is left open.
func openText(steps []Step) string {
	var texts []string
	for _, s := range steps {
		if s.Mark == Open {
			texts = append(texts, s.Text)
		}
	}
	return strings.Join(texts, ", ")
}

// by names what a compiled authorization comes from.
func (q *inbound) by(a core.Authorization) Resource {
	switch {
	case a.Ref.Default == core.NameProbe, a.Ref.Default == nameLocalhost:
		return Resource{Kind: kindDefault, Name: a.Ref.Default}
	case a.Ref.Default != "" && q.server != nil:
		// The Server itself, by its accessPolicy.
		return policyResource("Server", q.server.ID)
	case a.Ref.Default != "":
		return Resource{Kind: kindDefault, Name: a.Ref.Default}
	case a.Ref.Kind == "serverauthorization":
		return policyResource("ServerAuthorization", core.ID{Namespace: q.workload.Namespace, Name: a.Ref.Name})
	}
	return policyResource("AuthorizationPolicy", core.ID{Namespace: q.workload.Namespace, Name: a.Ref.Name})
}

// authorization says whether one authorization permits the client.
func (q *inbound) authorization(a core.Authorization) (Step, answer) {
	where, whereText := q.client.in(a.Networks)
	who, whoText := q.client.is(a.Clients)
	result := min(where, who)
	s := Step{Mark: result.mark(), Subject: q.by(a)}
	lets := [...]string{"does not let the client in", "lets some clients in", "lets the client in"}[result]
	if q.client.Proof == Unknown && !q.client.Address.IsValid() {
		lets = "lets clients in"
	}
	var policy *core.AuthorizationPolicy
	switch {
	case a.Ref.Default == core.NameProbe:
		s.Text = lets + " for the probes of the kubelet"
	case a.Ref.Default != "" && q.server != nil:
		s.Text = fmt.Sprintf("its accessPolicy %s %s", a.Ref.Default, lets)
		if a.Ref.Default == string(core.Audit) && result == yes {
			s.Text += ", and has it logged and counted"
		}
	case a.Ref.Default != "":
		s.Text = lets
	case a.Ref.Kind == "serverauthorization":
		s.Text = lets
	default:
		s.Text = lets
		for _, p := range q.source.AuthorizationPolicies(q.workload.Namespace) {
			if p.Name == a.Ref.Name {
				policy, s.Text = p, fmt.Sprintf("for %s: %s", targetText(p), lets)
			}
		}
	}
	if policy == nil {
		s.Steps = []Step{{Mark: who.mark(), Text: whoText}, {Mark: where.mark(), Text: whereText}}
		return s, result
	}
	switch {
	case policy.MeshTLS != nil:
		s.Steps = append(s.Steps, Step{Mark: who.mark(), Subject: policyResource("MeshTLSAuthentication", *policy.MeshTLS), Text: whoText})
	case policy.ServiceAccount != nil:
		s.Steps = append(s.Steps, Step{Mark: who.mark(), Subject: Resource{Kind: "ServiceAccount", Namespace: policy.ServiceAccount.Namespace, Name: policy.ServiceAccount.Name}, Text: whoText})
	}
	if policy.Network != nil {
		s.Steps = append(s.Steps, Step{Mark: where.mark(), Subject: policyResource("NetworkAuthentication", *policy.Network), Text: whereText})
	}
	if len(s.Steps) == 0 {
		s.Steps = []Step{{Mark: Yes, Text: "it asks for nothing: requiredAuthenticationRefs is empty"}}
	}
	return s, result
}

func targetText(p *core.AuthorizationPolicy) string {
	if p.Target == core.TargetNamespace {
		return "the Servers of the namespace"
	}
	return string(p.Target) + " " + p.TargetName
}

// broken returns steps for the policies that a filter takes which are not compiled, for what they refer to is not there.
func (q *inbound) broken(takes func(*core.AuthorizationPolicy) bool) []Step {
	var steps []Step
	for _, p := range sortedPolicies(q.source, q.workload.Namespace) {
		if !takes(p) {
			continue
		}
		var missing Resource
		switch {
		case p.MeshTLS != nil && q.source.MeshTLSAuthentication(*p.MeshTLS) == nil:
			missing = policyResource("MeshTLSAuthentication", *p.MeshTLS)
		case p.Network != nil && q.source.NetworkAuthentication(*p.Network) == nil:
			missing = policyResource("NetworkAuthentication", *p.Network)
		default:
			continue
		}
		steps = append(steps, Step{
			Mark: Warning, Subject: policyResource("AuthorizationPolicy", p.ID),
			Text: fmt.Sprintf("for %s: has no effect, for there is no %s", targetText(p), missing),
		})
	}
	return steps
}

// nameLocalhost is the name of the authorization that every proxy adds.
const nameLocalhost = "localhost"

// loopback is the authorization that every proxy adds.
func (q *inbound) loopback() (outcome, []Step) {
	if !q.client.loopback() {
		return outcome{}, nil
	}
	a := core.Authorization{Ref: core.Ref{Default: nameLocalhost}}
	return outcome{answer: yes, by: a}, []Step{{Mark: Yes, Subject: q.by(a), Text: "clients on the pod's own loopback are always let in"}}
}
