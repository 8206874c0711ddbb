// Package ctrlflags holds the flags that every controller has, and the logger they describe.
//
// It builds on the standard library's flag package, which takes long flags with one dash and with two: the charts use
// both (`-log-level=info`, `--log-level=info`).
//
//	var common ctrlflags.Common
//	fs := flag.NewFlagSet("identity", flag.ContinueOnError)
//	common.Register(fs)
//	if err := fs.Parse(args); err != nil { ... }
//	logger, err := common.Logger(os.Stderr)
//
// Source: control plane chapter, sections 1.2, 4.1, 10 and 11.1.
package ctrlflags

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// LevelTrace is below slog's lowest level: each message of each stream.
const LevelTrace = slog.LevelDebug - 4

// Common are the values of the flags that every controller has.
type Common struct {
	// LogLevel is one of panic, fatal, error, warn, info, debug, trace; or a list of `target=level` as the policy
	// controller's chart value allows.
	LogLevel string
	// LogFormat is plain or json.
	LogFormat string
	// Pprof adds profiles to the admin server.
	Pprof bool
	// Version asks to print the version and leave.
	Version bool
	// TraceCollector is the address of a trace collector; empty is none.
	TraceCollector string
}

// Register adds the flags to fs.
func (c *Common) Register(fs *flag.FlagSet) {
	fs.StringVar(&c.LogLevel, "log-level", "info", "log level: panic, fatal, error, warn, info, debug or trace")
	fs.StringVar(&c.LogFormat, "log-format", "plain", "log format: plain or json")
	fs.BoolVar(&c.Pprof, "enable-pprof", false, "serve profiles on the admin address")
	fs.BoolVar(&c.Version, "version", false, "print the version and exit")
	fs.StringVar(&c.TraceCollector, "trace-collector", "", "address of the trace collector; empty is none")
}

// Logger returns a logger that writes to w as the flags say.
func (c *Common) Logger(w io.Writer) (*slog.Logger, error) {
	level, err := ParseLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(c.LogFormat) {
	case "plain", "":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log format %q: must be plain or json", c.LogFormat)
}

// ParseLevel reads a log level.
//
// Besides a single level it takes a comma-separated list of levels and `target=level` pairs, because that is what users
// set for the policy controller. There are no targets here, so the bare level counts, and without one the most verbose of
// the pairs.
func ParseLevel(text string) (slog.Level, error) {
	var bare, target *slog.Level
	for _, directive := range strings.Split(text, ",") {
		name, value, pair := strings.Cut(strings.TrimSpace(directive), "=")
		if !pair {
			value = name
		}
		level, err := parseOne(value)
		switch {
		case err != nil:
			return 0, fmt.Errorf("log level %q: %w", text, err)
		case !pair:
			bare = &level
		case target == nil || level < *target:
			target = &level
		}
	}
	if bare != nil {
		return *bare, nil
	}
	return *target, nil
}

var errLevel = errors.New("must be panic, fatal, error, warn, info, debug or trace")

func parseOne(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "off", "panic", "fatal":
		return slog.LevelError + 4, nil
	case "error":
		return slog.LevelError, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "trace":
		return LevelTrace, nil
	}
	return 0, errLevel
}
