package ctrlflags_test

import (
	"bytes"
	"flag"
	"log/slog"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
)

func TestParseLevel(t *testing.T) {
	for _, c := range []struct {
		text string
		want slog.Level
		bad  bool
	}{
		{text: "info", want: slog.LevelInfo},
		{text: "", want: slog.LevelInfo},
		{text: "WARN", want: slog.LevelWarn},
		{text: "warning", want: slog.LevelWarn},
		{text: "panic", want: slog.LevelError + 4},
		{text: "trace", want: ctrlflags.LevelTrace},
		{text: "linkerd=debug,warn", want: slog.LevelWarn},
		{text: "warn,linkerd=debug", want: slog.LevelWarn},
		{text: "linkerd=info,kubert=debug", want: slog.LevelDebug},
		{text: "loud", bad: true},
		{text: "linkerd=loud", bad: true},
	} {
		got, err := ctrlflags.ParseLevel(c.text)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("%q: got %v, %v; want %v, error %v", c.text, got, err, c.want, c.bad)
		}
	}
}

func TestOneDashAndTwo(t *testing.T) {
	for _, dash := range []string{"-", "--"} {
		var common ctrlflags.Common
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		common.Register(fs)
		if err := fs.Parse([]string{dash + "log-level=debug", dash + "log-format", "json", dash + "enable-pprof=true"}); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		logger, err := common.Logger(&out)
		if err != nil {
			t.Fatal(err)
		}
		logger.Debug("hello", "n", 1)
		if !strings.Contains(out.String(), `"msg":"hello","n":1`) || !common.Pprof {
			t.Fatalf("dash %q: got %q, %+v", dash, out.String(), common)
		}
	}
}

func TestUnknownFormat(t *testing.T) {
	if _, err := (&ctrlflags.Common{LogFormat: "xml"}).Logger(nil); err == nil {
		t.Fatal("want an error")
	}
}
