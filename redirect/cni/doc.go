// Package cni is the CNI plugin linkerd-cni: it redirects a pod's traffic to
// its proxy while the pod's network is set up, so that pods need no privileged
// init container.
//
// It is chained behind the plugin that gives the pod its network. For each pod
// it asks the Kubernetes API whether the pod has a proxy and which exceptions
// its annotations make, and then puts the rules into the pod's network namespace
// (redirect/install). Configuration and behaviour are those of the proxy chapter,
// section 26.1, with one gap of section 29 closed: CHECK finds rules that are
// gone.
//
//	decide.go      what to do for a pod: pure functions
//	kube.go        the three questions to the Kubernetes API
//	kubeconfig.go  the file that says where the API is
//	plugin.go      the protocol with the container runtime
//
// A process of the plugin serves one call. The functions may be called from any
// goroutine.
package cni
