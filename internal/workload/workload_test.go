package workload

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"deploy":                "[deployment]",
		"po web":                "[pod/web]",
		"sts a b":               "[statefulset/a statefulset/b]",
		"deploy/web po/web-0":   "[deployment/web pod/web-0]",
		"all":                   "[all]",
		"":                      "No resource arguments provided",
		"nothing":               "cannot find Kubernetes canonical name from friendly name [nothing]",
		"nothing/x":             "cannot find Kubernetes canonical name from friendly name [nothing]",
		"deploy/web/x":          "Invalid resource string: deploy/web/x",
		"deploy web po/x":       "Invalid resource string: po/x",
		"deploy/web deploy/web": "cannot supply duplicate resources",
		"deploy web web":        "cannot supply duplicate resources",
		"all deploy":            "'all' can't be supplied alongside other resources",
		"deploy/web all":        "'all' can't be supplied alongside other resources",
	} {
		targets, err := Parse(strings.Fields(args))
		got := fmt.Sprint(targets)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q is %s, want %s", args, got, want)
		}
	}
}
