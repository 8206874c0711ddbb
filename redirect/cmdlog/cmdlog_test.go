package cmdlog_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/redirect/cmdlog"
)

func TestFormats(t *testing.T) {
	for format, want := range map[string]string{
		"plain": ` level=warn msg="two words" n=1` + "\n",
		"json":  `,"level":"warn","msg":"two words","n":1}` + "\n",
	} {
		var out bytes.Buffer
		log, err := cmdlog.New(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("unseen")
		log.Warn("two words", "n", 1)
		if !strings.HasSuffix(out.String(), want) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: got %q, want one line that ends in %q", format, out.String(), want)
		}
	}
	if _, err := cmdlog.New(nil, "xml", 0); err == nil {
		t.Error("an unknown format is accepted")
	}
}

func TestParseLevel(t *testing.T) {
	for name, want := range map[string]slog.Level{"info": slog.LevelInfo, "WARN": slog.LevelWarn, "warning": slog.LevelWarn, "debug": slog.LevelDebug} {
		if got, err := cmdlog.ParseLevel(name); err != nil || got != want {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "loud", "info "} {
		if _, err := cmdlog.ParseLevel(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
