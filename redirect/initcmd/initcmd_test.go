package initcmd_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/redirect/initcmd"
)

// Each file in testdata is one command line (section args) with the exit code
// and the log it must give. Run with -update to rewrite them.
func TestCommandLines(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		args := golden.Part(parts, "args")
		var stdout, stderr bytes.Buffer
		code := initcmd.Run(t.Context(), words(args), nil, &stdout, &stderr)
		return []txtar.File{
			{Name: "args", Data: []byte(args)},
			{Name: "exit", Data: []byte(strconv.Itoa(code) + "\n")},
			{Name: "stdout", Data: stdout.Bytes()},
			{Name: "stderr", Data: []byte(timeless(stderr.String()))},
		}
	})
}

// words cuts at blanks outside of double quotes.
func words(s string) []string {
	var out []string
	for _, w := range regexp.MustCompile(`(?:"[^"]*"|\S)+`).FindAllString(s, -1) {
		out = append(out, strings.ReplaceAll(w, `"`, ""))
	}
	return out
}

// timeless removes the time, which is the first thing in a line.
func timeless(log string) string {
	log = regexp.MustCompile(`(?m)^time=\S+ `).ReplaceAllString(log, "")
	return regexp.MustCompile(`(?m)^\{"time":"[^"]+",`).ReplaceAllString(log, "{")
}
