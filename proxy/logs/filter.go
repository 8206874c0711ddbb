package logs

import (
	"fmt"
	"log/slog"
	"sort"
	"strings"
)

// Levels below and above slog's own.
const (
	// LevelTrace is for what even debugging usually leaves out.
	LevelTrace = slog.LevelDebug - 4
	// LevelOff is above everything that is logged.
	LevelOff = slog.LevelError + 100
)

// Filter says from which level on each target logs. It does not change after
// ParseFilter.
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
	"off": LevelOff, "error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo,
	"debug": slog.LevelDebug, "trace": LevelTrace,
	"0": LevelOff, "1": slog.LevelError, "2": slog.LevelWarn, "3": slog.LevelInfo, "4": slog.LevelDebug, "5": LevelTrace,
}

// ParseFilter reads comma separated directives: a level, target=level, or a
// target alone, which logs everything. Directives for spans, such as
// [{headers}]=off, are accepted and have no effect, for this proxy never puts
// headers into spans. The empty filter logs errors.
func ParseFilter(text string) (*Filter, error) {
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
		l := LevelTrace
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
func (f *Filter) Off() bool { return f.def == LevelOff && len(f.rules) == 0 }

func levelName(l slog.Level) string {
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
