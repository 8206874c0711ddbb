package core

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// PortRange is all ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// PortSet is a set of ports.
type PortSet []PortRange

// Has reports whether the set contains a port.
func (s PortSet) Has(port uint16) bool {
	return slices.ContainsFunc(s, func(r PortRange) bool { return r.First <= port && port <= r.Last })
}

// ParsePorts reads a comma-separated list of ports, ranges (`8000-8100`) and names, which named resolves (nil: there are no
// names). Elements that are none of these are left out and returned as errors: one typing mistake must not change what the
// others mean, and the destination controller, which reads the same annotations, must come to the same result.
func ParsePorts(list string, named func(name string) []uint16) (PortSet, []error) {
	var set PortSet
	var errs []error
	for element := range strings.SplitSeq(list, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		if named != nil {
			if ports := named(element); len(ports) > 0 {
				for _, port := range ports {
					set = append(set, PortRange{port, port})
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
		if err1 != nil || err2 != nil || low == 0 || low > high {
			errs = append(errs, fmt.Errorf("%q is neither a port nor a range of ports", element))
			continue
		}
		set = append(set, PortRange{uint16(low), uint16(high)})
	}
	return set, errs
}
