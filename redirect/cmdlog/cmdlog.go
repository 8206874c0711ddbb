// Package cmdlog makes the loggers of the short-lived commands that set up and
// check redirection.
//
// They take their format and level from flags of the same names and values
// (proxy chapter, sections 24.1 and 25). A logger may be used from any
// goroutine.
package cmdlog

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// levels by the names that users know. The lowest and the highest ones have no
// counterpart of their own here.
var levels = map[string]slog.Level{
	"trace":   slog.LevelDebug,
	"debug":   slog.LevelDebug,
	"info":    slog.LevelInfo,
	"warn":    slog.LevelWarn,
	"warning": slog.LevelWarn,
	"error":   slog.LevelError,
	"fatal":   slog.LevelError,
	"panic":   slog.LevelError,
}

// ParseLevel reads the name of a log level, in any case of letters.
func ParseLevel(name string) (slog.Level, error) {
	level, ok := levels[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("not a valid log level: %q", name)
	}
	return level, nil
}

// New returns a logger that writes to w: lines of key=value pairs for format
// "plain", one JSON object per line for "json".
func New(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: lowerLevel}
	switch format {
	case "plain":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("not a valid log format: %q (want \"plain\" or \"json\")", format)
}

// lowerLevel writes levels in lower case, as log collectors expect them from
// these commands.
func lowerLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.LevelKey {
		return slog.String(a.Key, strings.ToLower(a.Value.String()))
	}
	return a
}
