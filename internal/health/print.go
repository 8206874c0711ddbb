package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Formats of the output.
const (
	FormatTable = "table"
	FormatShort = "short"
	FormatJSON  = "json"
)

// The marks in front of results.
const (
	OK   = "√"
	Warn = "‼"
	Fail = "×"
)

// Printer writes results as they come. It is used from one goroutine.
type Printer struct {
	out    io.Writer
	format string
	// terminal turns colours and the spinner on.
	terminal bool
	spin     *spinner

	category string
	printed  bool
	doc      document
}

// document is one JSON object of output (CLI chapter, section 4.4).
type document struct {
	Success    bool               `json:"success"`
	Categories []documentCategory `json:"categories"`
}

type documentCategory struct {
	Name   string          `json:"categoryName"`
	Checks []documentCheck `json:"checks"`
}

type documentCheck struct {
	Description string `json:"description"`
	Hint        string `json:"hint,omitempty"`
	Error       string `json:"error,omitempty"`
	Result      string `json:"result"`
}

// NewPrinter returns a printer. One printer prints one run after the other.
func NewPrinter(out io.Writer, format string, terminal bool) *Printer {
	p := &Printer{out: out, format: format, terminal: terminal}
	if terminal && format != FormatJSON {
		p.spin = &spinner{out: out}
	}
	return p
}

// Observe writes one result.
func (p *Printer) Observe(r Result) {
	if p.spin != nil {
		if r.Attempt {
			p.spin.start(r.Description + " -- " + r.Err.Error())
			return
		}
		p.spin.stop()
	}
	if r.Attempt {
		return
	}
	if p.format == FormatJSON {
		p.record(r)
		return
	}
	if p.format == FormatShort && r.Err == nil {
		return
	}
	if r.Category != p.category {
		if p.category != "" {
			fmt.Fprintln(p.out)
		}
		p.category = r.Category
		fmt.Fprintln(p.out, r.Category)
		fmt.Fprintln(p.out, strings.Repeat("-", len(r.Category)))
	}
	p.printed = true
	mark := p.Mark(OK)
	if r.Err != nil {
		mark = p.Mark(Fail)
		if r.Warning {
			mark = p.Mark(Warn)
		}
	}
	fmt.Fprintf(p.out, "%s %s\n", mark, r.Description)
	if r.Err != nil {
		fmt.Fprintf(p.out, "    %s\n", r.Err)
		if r.Hint != "" {
			fmt.Fprintf(p.out, "    see %s for hints\n", r.Hint)
		}
	}
}

func (p *Printer) record(r Result) {
	if n := len(p.doc.Categories); n == 0 || p.doc.Categories[n-1].Name != r.Category {
		p.doc.Categories = append(p.doc.Categories, documentCategory{Name: r.Category})
	}
	check := documentCheck{Description: r.Description, Hint: r.Hint, Result: "success"}
	if r.Err != nil {
		check.Error = r.Err.Error()
		check.Result = "error"
		if r.Warning {
			check.Result = "warning"
		}
	} else {
		check.Hint = ""
	}
	last := &p.doc.Categories[len(p.doc.Categories)-1]
	last.Checks = append(last.Checks, check)
}

// EndRun ends the results of one checker: the blank line after the last
// category, or the JSON object.
func (p *Printer) EndRun(o Outcome) error {
	if p.spin != nil {
		p.spin.stop()
	}
	if p.format == FormatJSON {
		p.doc.Success = o.Success
		data, err := json.MarshalIndent(p.doc, "", "  ")
		if err != nil {
			return err
		}
		p.doc = document{}
		_, err = fmt.Fprintf(p.out, "%s\n", data)
		return err
	}
	if p.printed {
		fmt.Fprintln(p.out)
	}
	p.category, p.printed = "", false
	return nil
}

// Status writes the last line of the command.
func (p *Printer) Status(success bool) {
	if p.format == FormatJSON {
		return
	}
	mark := p.Mark(OK)
	if !success {
		mark = p.Mark(Fail)
	}
	fmt.Fprintf(p.out, "Status check results are %s\n", mark)
}

// Mark returns a mark, coloured on a terminal.
func (p *Printer) Mark(mark string) string {
	if !p.terminal {
		return mark
	}
	colour := map[string]string{OK: "32", Warn: "33", Fail: "31"}[mark]
	return "\x1b[1;" + colour + "m" + mark + "\x1b[0m"
}

// ReadResults decodes the JSON object another checker printed, so that its
// results can be printed in the style of this one.
func ReadResults(data []byte) ([]Result, Outcome, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, Outcome{}, err
	}
	outcome := Outcome{Success: doc.Success}
	var out []Result
	for _, category := range doc.Categories {
		for _, c := range category.Checks {
			r := Result{Category: category.Name, Description: c.Description, Hint: c.Hint, Warning: c.Result == "warning"}
			if c.Error != "" || c.Result == "error" || c.Result == "warning" {
				r.Err = errors.New(c.Error)
			}
			outcome.Warnings = outcome.Warnings || r.Warning
			out = append(out, r)
		}
	}
	return out, outcome, nil
}

// spinner shows that something is being waited for.
type spinner struct {
	out io.Writer

	mu   sync.Mutex // guards text and the writing of frames
	text string
	quit chan struct{}
	done chan struct{}
}

func (s *spinner) start(text string) {
	s.mu.Lock()
	s.text = strings.ReplaceAll(text, "\n", " ")
	s.mu.Unlock()
	if s.quit != nil {
		return
	}
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for frame := 0; ; frame++ {
			s.mu.Lock()
			fmt.Fprintf(s.out, "\r\x1b[K%c %s", `|/-\`[frame%4], s.text)
			s.mu.Unlock()
			select {
			case <-tick.C:
			case <-s.quit:
				fmt.Fprint(s.out, "\r\x1b[K")
				return
			}
		}
	}()
}

func (s *spinner) stop() {
	if s.quit == nil {
		return
	}
	close(s.quit)
	<-s.done
	s.quit = nil
}
