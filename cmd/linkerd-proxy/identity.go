package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
)

// proxyPath is where the images have the proxy.
const proxyPath = "/usr/lib/linkerd/linkerd2-proxy"

// runIdentity is linkerd2-proxy-identity: it prepares what the proxy is
// certified with, then becomes the proxy, with the same environment. It takes
// no arguments of its own; those given go to the proxy.
func runIdentity(_ context.Context, args, env []string, _, stderr io.Writer) int {
	lookup := lookupIn(env)
	get := func(name string) string {
		v, _ := lookup("LINKERD2_PROXY_IDENTITY_" + name)
		return v
	}
	// With SPIRE, key and certificate come from its agent.
	if get("SPIRE_WORKLOAD_API_ADDRESS") == "" && get("SPIRE_SOCKET") == "" {
		if err := identityboot.Write(get("DIR"), []byte(get("TRUST_ANCHORS")), get("LOCAL_NAME")); err != nil {
			fmt.Fprintf(stderr, "linkerd2-proxy-identity: %v\n", err)
			return exitFailed
		}
	}
	path := proxyPath
	if self, err := os.Executable(); err == nil {
		// A sibling of the binary that runs, wherever it was put.
		if p := filepath.Join(filepath.Dir(self), "linkerd2-proxy"); executable(p) {
			path = p
		} else if !executable(path) {
			// The same binary is the proxy too, under its name.
			path = self
		}
	}
	err := syscall.Exec(path, append([]string{"linkerd2-proxy"}, args...), env)
	fmt.Fprintf(stderr, "linkerd2-proxy-identity: run %s: %v\n", path, err)
	return exitFailed
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
