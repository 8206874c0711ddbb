package main

import v1 "github.com/google/go-containerregistry/pkg/v1"

// defaultRegistry is where the charts expect the images.
const defaultRegistry = "ghcr.io/linkerd-go"

// spec says what an image holds. Every image is the binary of one Go package.
type spec struct {
	name string // last part of the image's name
	pkg  string // package of its main, from the module root
	path string // of the binary inside the image
	// links are further paths of the same binary, as hard links: kubelets
	// and hooks call it by these names, and it tells by them what to be.
	links []string
	// fileCapability, when not empty, is the binary's extended attribute
	// security.capability.
	fileCapability string
	// dirs exist in the image though nothing is in them.
	dirs []string
	conf v1.Config
	tags []string // further tags beside the version
}

// images are all that the project ships. Paths and environment of the proxy's
// are the proxy chapter's, section 1.1.
var images = []spec{
	{
		name: "proxy",
		pkg:  "./cmd/linkerd-proxy",
		path: "usr/lib/linkerd/linkerd2-proxy",
		links: []string{
			"usr/lib/linkerd/linkerd2-proxy-identity",
			"usr/lib/linkerd/linkerd2-proxy-init",
			"usr/lib/linkerd/linkerd2-network-validator",
			"usr/lib/linkerd/linkerd-await",
			"bin/sleep",
		},
		// The init container does not run as root and gets its capability by
		// this mark: struct vfs_cap_data, revision 2, NET_ADMIN (bit 12)
		// permitted. It must not be effective, which would keep the same file
		// from starting in the proxy's container, where there is no NET_ADMIN.
		// redirect/initcmd explains and tests it.
		fileCapability: "\x00\x00\x00\x02" + "\x00\x10\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00",
		// The init container mounts an empty volume on /run.
		dirs: []string{"run", "tmp"},
		conf: v1.Config{
			Entrypoint: []string{"/usr/lib/linkerd/linkerd2-proxy-identity"},
			User:       "65534",
			Env: []string{
				"PATH=/usr/lib/linkerd:/bin",
				"LINKERD2_PROXY_LOG=warn,linkerd=info",
				"LINKERD2_PROXY_LOG_FORMAT=plain",
			},
		},
	},
	{
		name:  "controller",
		pkg:   "./cmd/linkerd-controller",
		path:  "linkerd-controller",
		links: []string{"linkerd-policy-controller"},
		dirs:  []string{"tmp"},
		conf: v1.Config{
			Entrypoint: []string{"/linkerd-controller"},
			User:       "2103",
		},
	},
	{
		name: "cni-plugin",
		pkg:  "./cmd/linkerd-cni",
		// The installer copies what is in this directory to the node.
		path: "opt/cni/bin/linkerd-cni",
		links: []string{
			"usr/lib/linkerd/linkerd2-cni-install",
			"usr/lib/linkerd/linkerd-cni-repair-controller",
		},
		dirs: []string{"tmp"},
		conf: v1.Config{
			Entrypoint: []string{"/usr/lib/linkerd/linkerd2-cni-install"},
			// The node's directories belong to root.
			User: "0",
		},
	},
	{
		name: "debug",
		pkg:  "./cmd/linkerd-debug",
		path: "bin/linkerd-debug",
		// What the container's probes run.
		links: []string{"bin/true"},
		// For pods whose user is not root: struct vfs_cap_data, revision 2,
		// NET_RAW (bit 13) permitted, and not effective, as for the proxy's.
		// debug/capture explains it.
		fileCapability: "\x00\x00\x00\x02" + "\x00\x20\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00",
		dirs:           []string{"tmp"},
		conf: v1.Config{
			Entrypoint: []string{"/bin/linkerd-debug"},
			// Root sees whose the sockets are, and may capture everywhere.
			User: "0",
			Env:  []string{"PATH=/bin"},
		},
	},
	{
		name: "sample",
		pkg:  "./sample/cmd/shop",
		path: "shop",
		conf: v1.Config{
			Entrypoint: []string{"/shop"},
			User:       "65534",
		},
		// The shop's manifest is fixed, so it names no version.
		tags: []string{"latest"},
	},
}
