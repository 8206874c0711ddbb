package profile

import (
	"bytes"
	"fmt"
	"regexp"

	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
)

// protoRoutes makes a route of each method of each service. Imports are not
// followed: the names of methods do not depend on them.
func protoRoutes(name string, text []byte) ([]route, error) {
	file, err := parser.Parse(name, bytes.NewReader(text), reporter.NewHandler(nil))
	if err != nil {
		return nil, err
	}
	prefix := ""
	for _, d := range file.Decls {
		if p, ok := d.(*ast.PackageNode); ok {
			prefix = string(p.Name.AsIdentifier()) + "."
		}
	}
	var out []route
	for _, d := range file.Decls {
		service, ok := d.(*ast.ServiceNode)
		if !ok {
			continue
		}
		for _, d := range service.Decls {
			rpc, ok := d.(*ast.RPCNode)
			if !ok {
				continue
			}
			path := fmt.Sprintf("/%s%s/%s", prefix, service.Name.Val, rpc.Name.Val)
			out = append(out, route{
				Name:        rpc.Name.Val,
				Condition:   condition{Method: "POST", PathRegex: regexp.QuoteMeta(path)},
				IsRetryable: idempotent(rpc),
			})
		}
	}
	return out, nil
}

// idempotent reports whether a method says that calling it twice is harmless.
func idempotent(rpc *ast.RPCNode) bool {
	for _, d := range rpc.Decls {
		option, ok := d.(*ast.OptionNode)
		if !ok || len(option.Name.Parts) != 1 || option.Name.Parts[0].Value() != "idempotency_level" {
			continue
		}
		if level, ok := option.Val.(ast.IdentValueNode); ok {
			switch level.AsIdentifier() {
			case "IDEMPOTENT", "NO_SIDE_EFFECTS":
				return true
			}
		}
	}
	return false
}
