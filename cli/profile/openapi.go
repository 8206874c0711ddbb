package profile

import (
	"errors"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// methods in the order their routes are written.
var methods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// document is the part of an OpenAPI document, of version 2 or 3, that routes
// come from.
type document struct {
	Swagger  string                    `json:"swagger"`
	OpenAPI  string                    `json:"openapi"`
	BasePath string                    `json:"basePath"`
	Servers  []struct{ URL string }    `json:"servers"`
	Paths    map[string]map[string]any `json:"paths"`
}

// parameter is a variable part of a path.
var parameter = regexp.MustCompile(`\\\{[^}]*\\\}`)

// openAPIRoutes makes a route of each operation.
func openAPIRoutes(_ string, text []byte) ([]route, error) {
	var d document
	if err := yaml.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	if d.Swagger == "" && d.OpenAPI == "" && d.Paths == nil {
		return nil, errors.New("not an OpenAPI document: it has neither a version nor paths")
	}
	base := d.BasePath
	if base == "" && len(d.Servers) > 0 {
		// Version 3 has whole URLs, which may be relative and have variables.
		if u, err := url.Parse(d.Servers[0].URL); err == nil {
			base = u.Path
		}
	}
	base = strings.TrimSuffix(base, "/")
	var paths []string
	for p := range d.Paths {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	var out []route
	for _, p := range paths {
		full := base + p
		if !strings.HasPrefix(full, "/") {
			full = "/" + full
		}
		for _, method := range methods {
			operation, ok := d.Paths[p][strings.ToLower(method)].(map[string]any)
			if !ok {
				continue
			}
			r := route{
				Name:            method + " " + full,
				Condition:       condition{Method: method, PathRegex: pathRegex(full)},
				ResponseClasses: responseClasses(operation),
			}
			r.IsRetryable, _ = operation["x-linkerd-retryable"].(bool)
			r.Timeout, _ = operation["x-linkerd-timeout"].(string)
			out = append(out, r)
		}
	}
	return out, nil
}

// pathRegex matches what a path with {parameters} stands for.
func pathRegex(path string) string {
	return parameter.ReplaceAllString(regexp.QuoteMeta(path), "[^/]*")
}

func responseClasses(operation map[string]any) []responseClass {
	responses, _ := operation["responses"].(map[string]any)
	var codes []int
	for text := range responses {
		if code, err := strconv.Atoi(text); err == nil {
			codes = append(codes, code)
		}
	}
	sort.Ints(codes)
	var out []responseClass
	for _, code := range codes {
		out = append(out, responseClass{Condition: statusCondition{statusRange{code, code}}, IsFailure: code >= 500})
	}
	return out
}
