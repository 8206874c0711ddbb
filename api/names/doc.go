// Package names has the names that the programs of the mesh and their users agree on:
// labels, annotations, ports, containers, volumes, objects, identities and the proxy's
// environment. They are Linkerd's, because manifests, dashboards and peers of other versions
// depend on each of them; none may be changed.
//
// A constant's name begins with what it names: Label, Annotation, Env, Port, Container,
// Volume, and so on. A file has one subject:
//
//	inject.go      annotations and labels of injection and proxy configuration
//	traffic.go     annotations and protocols of Services and routes
//	component.go   labels, objects and containers of the control plane
//	extension.go   labels, annotations and objects of the extensions
//	mirror.go      labels and annotations of multicluster
//	port.go        ports
//	workload.go    containers, volumes and files of an injected pod
//	identity.go    forms of workload identities
//	proxyenv.go    environment variables of the proxy
//	header.go      HTTP headers of the mesh
//
// The package imports only the standard library, so that every program can use it. All of
// it is constant and its functions keep no state: any goroutine may call them.
//
// Sources: control plane chapter, sections 1, 3 and 4; proxy chapter, sections 1, 2 and 7.1;
// extensions chapter, section 11.2.
package names
