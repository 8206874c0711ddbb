package inject

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// portRange is a range of ports, both ends included.
type portRange struct{ low, high uint16 }

func (r portRange) contains(port uint16) bool { return r.low <= port && port <= r.high }

func (r portRange) String() string {
	if r.low == r.high {
		return strconv.Itoa(int(r.low))
	}
	return fmt.Sprintf("%d-%d", r.low, r.high)
}

// joinPorts writes a list the way annotations and flags have it.
func joinPorts(ranges []portRange) string {
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// parsePorts reads a comma-separated list of ports and ranges. named gives the ports of an element that is neither, nil
// when there can be none. The error joins those of elements that cannot be understood; the others are in the result.
// Source: control plane chapter, section 3.1.
func parsePorts(list string, named func(name string) []uint16) ([]portRange, error) {
	var ranges []portRange
	var errs []error
	for _, element := range elements(list) {
		r, err := parsePortRange(element)
		if err == nil {
			ranges = append(ranges, r)
			continue
		}
		var ports []uint16
		if named != nil {
			ports = named(element)
		}
		if len(ports) == 0 {
			errs = append(errs, err)
		}
		for _, port := range ports {
			ranges = append(ranges, portRange{port, port})
		}
	}
	return ranges, errors.Join(errs...)
}

// elements splits a comma-separated list, trims blanks and tolerates one comma at the end.
func elements(list string) []string {
	list = strings.TrimSuffix(strings.TrimSpace(list), ",")
	if list == "" {
		return nil
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func parsePortRange(text string) (portRange, error) {
	lower, upper, isRange := strings.Cut(text, "-")
	if !isRange {
		upper = lower
	}
	low, errLow := strconv.ParseUint(strings.TrimSpace(lower), 10, 16)
	high, errHigh := strconv.ParseUint(strings.TrimSpace(upper), 10, 16)
	if errLow != nil || errHigh != nil {
		return portRange{}, fmt.Errorf("%q is not a port or a range of ports", text)
	}
	if low > high {
		return portRange{}, fmt.Errorf("%q is not a range of ports: its ends are in the wrong order", text)
	}
	return portRange{uint16(low), uint16(high)}, nil
}
