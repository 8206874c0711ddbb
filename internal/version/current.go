package version

import "os"

// OverrideEnv names the environment variable that replaces the compiled
// version, so that a locally built CLI can install images of another tag (CLI
// chapter, section 1.2).
const OverrideEnv = "LINKERD_CONTAINER_VERSION_OVERRIDE"

// Current returns the version in effect for a client: the override from the
// environment when one is set, else the compiled version.
func Current() string {
	if v := os.Getenv(OverrideEnv); v != "" {
		return v
	}
	return Version
}
