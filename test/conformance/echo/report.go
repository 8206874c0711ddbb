package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
)

// seen is what a server tells about a request.
type seen struct {
	method, proto, url, host string
	headers                  http.Header
	hostname                 string
}

// write prints a line per field, in the names that the suite looks for.
func (s *seen) write(w io.Writer) {
	fmt.Fprintf(w, "Method=%s\nProto=%s\nURL=%s\nHost=%s\n", s.method, s.proto, s.url, s.host)
	writeHeaders(w, "RequestHeader", s.headers)
	fmt.Fprintf(w, "Hostname=%s\n", s.hostname)
}

// writeHeaders prints a line per value of each header field.
func writeHeaders(w io.Writer, field string, headers http.Header) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			fmt.Fprintf(w, "%s=%s:%s\n", field, name, value)
		}
	}
}
