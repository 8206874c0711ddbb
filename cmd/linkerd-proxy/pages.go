package main

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dropPages lets go of the pages of the program itself that starting, or work
// that is over, needed and rest does not: most of an idle proxy's resident memory.
// They are clean pages of a file, so the kernel maps them again where they are
// used, from memory and many at once; nothing is lost if it fails.
func dropPages() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for _, r := range cleanRanges(maps, exe) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, r[0], r[1]-r[0], syscall.MADV_DONTNEED)
	}
}

// cleanRanges are the private mappings of the file that cannot be written to.
func cleanRanges(maps io.Reader, exe string) [][2]uintptr {
	var out [][2]uintptr
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 00400000-00a5e000 r-xp 00000000 fe:00 1234  /path
		f := strings.Fields(lines.Text())
		if len(f) < 6 || strings.Join(f[5:], " ") != exe || f[1] != "r-xp" && f[1] != "r--p" {
			continue
		}
		lo, hi, ok := strings.Cut(f[0], "-")
		a, err1 := strconv.ParseUint(lo, 16, 64)
		b, err2 := strconv.ParseUint(hi, 16, 64)
		if ok && err1 == nil && err2 == nil && a < b {
			out = append(out, [2]uintptr{uintptr(a), uintptr(b)})
		}
	}
	return out
}
