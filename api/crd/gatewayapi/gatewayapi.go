// Package gatewayapi bundles the definitions of routes and of ReferenceGrants of the Gateway API,
// for clusters where nobody else installs them; see NOTE for their origin.
package gatewayapi

import "embed"

// Version is the Gateway API release that the files are from.
const Version = "v1.6.3"

// Channels of the Gateway API, the directories of Files.
const (
	// Experimental has every field and serves TLSRoute and TCPRoute v1alpha2.
	Experimental = "experimental"
	// Standard has the fields whose form is settled.
	Standard = "standard"
)

// Files has one definition per file, named `<channel>/gateway.networking.k8s.io_<plural>.yaml`,
// for grpcroutes, httproutes, referencegrants, tcproutes and tlsroutes. It is read-only, so that any goroutine
// may use it.
//
//go:embed experimental/*.yaml standard/*.yaml
var Files embed.FS
