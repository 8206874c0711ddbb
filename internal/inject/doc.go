// Package inject decides whether an object gets a proxy, which values its annotations give the proxy, and which JSON patch
// makes it so. The injector's webhook and the CLI share it; they differ in their Origin.
//
//	object, err := inject.Parse(json)                                     // what is it
//	decision := inject.Decide(object.Facts(inject.Webhook, values, ns))   // shall it get a proxy, and if not, why
//	result, err := inject.Injection{Object: object, ...}.Patch(render)    // how
//
// A file has one subject:
//
//	object.go      the parts of a Kubernetes object that matter here
//	decide.go      the decision and its reasons
//	annotate.go    annotations that objects take over or are given
//	override.go    from annotations to chart values, and back
//	opaque.go      the opaque ports of pods and Services
//	pod.go         what the values say about one particular pod
//	patch.go       JSON patches, and the one that injects
//
// The containers themselves are not described here but in the charts: a Renderer is passed in
// (docs/decisions/injector-renders-the-chart.md).
//
// To add an annotation: name it in api/names (with its level), add a line to settings in override.go, a line to
// testdata/override.txt (a test asks for it), and use the value in charts/partials. What becomes of a whole pod is shown by
// the cases in cmd/linkerd-controller/testdata/inject.
//
// Everything is a pure function of its arguments: nothing reads a file, a clock or the network, nothing is logged, and
// arguments are never changed. Any goroutine may call anything.
//
// Sources: control plane chapter, sections 3.1, 3.2 and 4; CLI chapter, section 3.
package inject
