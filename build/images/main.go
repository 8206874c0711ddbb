// Command images builds the project's container images without a daemon: one
// static binary each, in an otherwise empty file system.
//
//	go run ./build/images                       build for this machine into out/images/*.tar
//	go run ./build/images -arch amd64,arm64     the same for both, one OCI layout each in out/images/*
//	go run ./build/images -push REGISTRY/PATH   build for both and push
//	go run ./build/images -only proxy,sample    some of them
//	go run ./build/images -fips v1.0.0          with Go's FIPS 140-3 module, which is then switched on
//
// An archive in out/images is what `ctr image import`, `docker load` and
// `devcluster load` take. Equal sources give equal images: time stamps are
// fixed and paths trimmed.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
)

func main() {
	o := options{images: images}
	arch := flag.String("arch", runtime.GOARCH, "architectures to build for, separated by commas")
	only := flag.String("only", "", "images to build, separated by commas; all if empty")
	flag.StringVar(&o.out, "out", "out/images", "directory to write to")
	flag.StringVar(&o.version, "version", "", "tag of the images; what `git describe` says if empty")
	flag.StringVar(&o.push, "push", "", "registry and path to push to, for example registry.example/linkerd-go; builds amd64 and arm64")
	flag.StringVar(&o.fips, "fips", "", "build with this version of Go's FIPS 140-3 module, for example v1.0.0; see docs/fips.md")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Build the container images.\n\nUsage: images [flags]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "images: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	o.arches = split(*arch)
	if o.push != "" {
		o.arches = []string{"amd64", "arm64"}
	}
	o.only = split(*only)
	if err := o.run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func split(s string) []string {
	var out []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	return out
}
