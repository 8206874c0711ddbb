package logfilter

import (
	"log/slog"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		filter, target string
		want           slog.Level
	}{
		{"", "x", slog.LevelError},
		{"off", "x", Off},
		{"warn,linkerd=info,hickory=error", "linkerd_app", slog.LevelInfo},
		{"warn,linkerd=info,hickory=error", "hickory_proto", slog.LevelError},
		{"warn,linkerd=info,hickory=error", "other", slog.LevelWarn},
		{"linkerd=info,linkerd_app_inbound=debug", "linkerd_app_inbound::http", slog.LevelDebug},
		{"WARN, linkerd = TRACE", "linkerd", slog.LevelWarn},
		{"warn,linkerd=info,[{headers}]=off,[{request}]=off", "linkerd", slog.LevelInfo},
		{"warn,linkerd[span{a=b}]=debug", "linkerd", slog.LevelWarn},
		{"linkerd", "linkerd", Trace},
		{"4", "x", slog.LevelDebug},
	} {
		f, err := Parse(c.filter)
		if c.filter == "WARN, linkerd = TRACE" {
			if err == nil {
				t.Error("blanks around = were accepted")
			}
			continue
		}
		if err != nil || f.Level(c.target) != c.want {
			t.Errorf("%q %q: got %v, %v", c.filter, c.target, f, err)
		}
	}
	for _, bad := range []string{"linkerd=loud", "a b=info", "x[{y=info", "!!", "info;warn"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
