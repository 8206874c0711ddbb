// Package version holds the version of the build.
//
// The value is set once at link time and never changes afterwards, so it may be read from any goroutine:
//
//	go build -ldflags "-X github.com/linkerd-go/linkerd-go/internal/version.Version=edge-26.11.1"
package version

// Undefined is what Version holds in a build that was not stamped, for example in tests.
const Undefined = "dev-undefined"

// Version is the version of this build: `<channel>-<version>`, or Undefined.
var Version = Undefined
