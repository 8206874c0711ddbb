// Package logfilter is the grammar of the proxy's log filters, such as
// "warn,linkerd=info" (proxy chapter, section 22): what the proxy goes by, and what
// the injector and the command line check a filter with before a proxy gets it.
//
// Everything in it may be called from any goroutine.
package logfilter

import (
	"fmt"
	"log/slog"
	"sort"
	"strings"
)

// Levels below and above slog's own.
const (
	// Trace is for what even debugging usually leaves out.
	Trace = slog.LevelDebug - 4
	// Off is above everything that is logged.
	Off = slog.LevelError + 100
)

// Filter says from which level on each target logs. It does not change after
// Parse.
type Filter struct {
	text string
	// rules are by falling length of target, so that the first prefix that
	// fits is the most specific.
	rules []rule
	def   slog.Level
}

type rule struct {
	target string
	level  slog.Level
}

var levels = map[string]slog.Level{
	"off": Off, "error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo,
	"debug": slog.LevelDebug, "trace": Trace,
	"0": Off, "1": slog.LevelError, "2": slog.LevelWarn, "3": slog.LevelInfo, "4": slog.LevelDebug, "5": Trace,
}

// Parse reads comma separated directives: a level, target=level, or a
// target alone, which logs everything. Directives for spans, such as
// [{headers}]=off, are accepted and have no effect, for this proxy never puts
// headers into spans. The empty filter logs errors.
func Parse(text string) (*Filter, error) {
	f := &Filter{text: text, def: slog.LevelError}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if l, ok := levels[strings.ToLower(item)]; ok {
			f.def = l
			continue
		}
		target, level, hasLevel := strings.Cut(item, "=")
		// A field's value inside of brackets may contain "=".
		if i := strings.IndexByte(item, '['); i >= 0 {
			j := strings.LastIndexByte(item, ']')
			if j < i {
				return nil, fmt.Errorf("invalid filter directive %q: bracket is not closed", item)
			}
			target = item[:j+1]
			level, hasLevel = strings.CutPrefix(item[j+1:], "=")
		}
		l := Trace
		if hasLevel {
			var ok bool
			if l, ok = levels[strings.ToLower(strings.TrimSpace(level))]; !ok {
				return nil, fmt.Errorf("invalid filter directive %q: %q is not a level", item, level)
			}
		}
		if strings.ContainsRune(target, '[') {
			continue
		}
		if strings.Trim(target, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:-") != "" {
			return nil, fmt.Errorf("invalid filter directive %q: %q is not a target", item, target)
		}
		f.rules = append(f.rules, rule{target, l})
	}
	sort.SliceStable(f.rules, func(i, j int) bool { return len(f.rules[i].target) > len(f.rules[j].target) })
	return f, nil
}

// String is the text that the filter was parsed from.
func (f *Filter) String() string { return f.text }

// Level is the lowest level that the target logs.
func (f *Filter) Level(target string) slog.Level {
	for _, r := range f.rules {
		if strings.HasPrefix(target, r.target) {
			return r.level
		}
	}
	return f.def
}

// Off reports whether nothing is logged at all.
func (f *Filter) Off() bool { return f.def == Off && len(f.rules) == 0 }

// Name is how the proxy writes a level.
func Name(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	}
	return "ERROR"
}
