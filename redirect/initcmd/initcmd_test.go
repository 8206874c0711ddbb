package initcmd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/linkerd-go/linkerd-go/redirect/initcmd"
)

// Each file in testdata is one command line (section args) with the exit code
// and the log it must give. Run with UPDATE=1 to rewrite them.
func TestCommandLines(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var args string
			for _, f := range archive.Files {
				if f.Name == "args" {
					args = string(f.Data)
				}
			}
			var stdout, stderr bytes.Buffer
			code := initcmd.Run(t.Context(), words(args), nil, &stdout, &stderr)
			got := &txtar.Archive{Comment: archive.Comment, Files: []txtar.File{
				{Name: "args", Data: []byte(args)},
				{Name: "exit", Data: []byte(strconv.Itoa(code) + "\n")},
				{Name: "stdout", Data: stdout.Bytes()},
				{Name: "stderr", Data: []byte(timeless(stderr.String()))},
			}}
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
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
