package calm

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// Limit tells the runtime of the container's limit of memory, unless the environment (GOMEMLIMIT) says what to keep to.
func Limit() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, ok := containerLimit("/sys/fs/cgroup"); ok {
		debug.SetMemoryLimit(limit / share * (share - 1))
	}
}

// share is the part of the limit that is left for what the runtime does not count, such as pages of the program: a tenth.
const share = 10

// containerLimit reads the limit of the control group whose files are below root, as a container sees its own.
func containerLimit(root string) (bytes int64, ok bool) {
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} { // of version 2, of version 1
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		// Version 2 says "max" where there is none, version 1 the greatest number of whole pages.
		return limit, err == nil && limit < math.MaxInt64/2
	}
	return 0, false
}
