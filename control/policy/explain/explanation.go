package explain

import (
	"fmt"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
)

// Source is where the resources are found.
type Source interface {
	core.Lookup
	// Unusable returns the objects of a namespace whose newest version cannot be used.
	Unusable(namespace string) []index.Unusable
}

// Verdict is what an explanation comes to.
type Verdict string

// The verdicts.
const (
	// Allowed: the client gets through.
	Allowed Verdict = "allowed"
	// Denied: the client is refused.
	Denied Verdict = "denied"
	// Audited: the client gets through only because of the policy audit, and is logged.
	Audited Verdict = "audited"
	// NoRoute: no route takes the request.
	NoRoute Verdict = "no route"
	// Depends: the question leaves open what decides.
	Depends Verdict = "depends"
)

// Explanation is a verdict and the reasons for it, in the order in which the proxy comes to them.
type Explanation struct {
	Verdict Verdict
	// Summary is the verdict in one line.
	Summary string
	// By is what decided; zero if nothing in particular did.
	By Resource
	// Status and Code are what clients of HTTP and gRPC are refused with; 0 if they are not.
	Status, Code int
	// Answer is what the client sees, in words.
	Answer string
	Steps  []Step
	// Port is the number of the port.
	Port uint16
}

// Resource names what a step is about: a resource, or with the kind `default` what is there without one.
type Resource struct{ Group, Kind, Namespace, Name string }

// kindDefault is the kind of what is there without a resource.
const kindDefault = "default"

// String returns the resource as people write it.
func (r Resource) String() string {
	switch {
	case r == Resource{}:
		return ""
	case r.Kind == kindDefault && names.IsDefaultPolicy(r.Name):
		return "default policy " + r.Name
	case r.Namespace == "":
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Mark says what a step means for the client.
type Mark int

// The marks.
const (
	// Note is neither for nor against.
	Note Mark = iota
	// Yes: the step holds, or lets the client in.
	Yes
	// No: it does not.
	No
	// Warning: something is not as its author may think.
	Warning
	// Open: the question leaves it open.
	Open
)

// Step is one reason.
type Step struct {
	Mark    Mark
	Subject Resource
	Text    string
	// Steps are the reasons for this one.
	Steps []Step
}

func policyResource(kind string, id core.ID) Resource {
	return Resource{Group: core.GroupPolicy, Kind: kind, Namespace: id.Namespace, Name: id.Name}
}

func routeResource(r *core.Route) Resource {
	return Resource{Group: r.Group, Kind: string(r.Kind), Namespace: r.Namespace, Name: r.Name}
}

// list joins texts with commas, and shortens long lists.
func list(texts []string) string {
	const most = 12
	if len(texts) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
	}
	return strings.Join(texts, ", ")
}
