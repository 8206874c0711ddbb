// Package rules decides how the traffic of a pod is redirected to its proxy.
//
// [Build] turns the options that the init container and the CNI plugin accept
// into a [Plan]: for each address family an ordered list of chains and rules.
// A plan is a plain value. It says nothing about how rules get into the kernel;
// redirect/nft and redirect/iptables do that. The list, its order and the
// comment of each rule are those of the proxy chapter, section 24.2.
//
// Nothing here does I/O, and a Plan is never changed once built, so every
// function and value may be used from any goroutine.
package rules
