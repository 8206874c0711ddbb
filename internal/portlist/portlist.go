// Package portlist reads lists of ports as annotations and flags have them: numbers, ranges and names.
//
//	ports, errs := portlist.Parse("25,8000-8100,http", named)
//	ports.Has(8042)
//
// The programs that read the same annotation have to come to the same result, and do by reading it here. A Set is never
// changed once it is made, so that any goroutine may read it. Source: control plane chapter, section 3.1, after the table.
package portlist

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is all ports from First to Last, both included.
type Range struct{ First, Last uint16 }

// String returns the range the way lists have it.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Set is a set of ports.
type Set []Range

// String returns the set the way annotations and flags have it.
func (s Set) String() string {
	parts := make([]string, len(s))
	for i, r := range s {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// Has reports whether the set contains a port.
func (s Set) Has(port uint16) bool {
	return slices.ContainsFunc(s, func(r Range) bool { return r.First <= port && port <= r.Last })
}

// Parse reads a comma-separated list of ports, ranges (`8000-8100`) and names, which named resolves (nil: there are no names).
// Elements that are none of these are left out and returned as errors: one typing mistake must not change what the others
// mean.
func Parse(list string, named func(name string) []uint16) (Set, []error) {
	var set Set
	var errs []error
	for element := range strings.SplitSeq(list, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		if named != nil {
			if ports := named(element); len(ports) > 0 {
				for _, port := range ports {
					set = append(set, Range{port, port})
				}
				continue
			}
		}
		first, last, isRange := strings.Cut(element, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		high, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		if isRange && low == 0 {
			low = 1 // there is no port 0, and whoever begins there means all
		}
		switch {
		case err1 != nil || err2 != nil || low == 0 || high == 0:
			errs = append(errs, fmt.Errorf("%q is neither a port nor a range of ports", element))
		case low > high:
			errs = append(errs, fmt.Errorf("%q is no range of ports: its ends are in the wrong order", element))
		default:
			set = append(set, Range{uint16(low), uint16(high)})
		}
	}
	return set, errs
}
