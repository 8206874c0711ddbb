// Package table writes the two kinds of tables the CLI prints (CLI chapter,
// section 1.8). It holds no state; a Table must not be changed while it is
// being written.
package table

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode/utf8"
)

// Column describes one column.
type Column struct {
	// Header is the text above the column.
	Header string
	// Left aligns cells to the left; the default is to the right.
	Left bool
	// Hide leaves the column out.
	Hide bool
}

// Table is a header and rows of as many cells as there are columns.
type Table struct {
	Columns []Column
	Rows    [][]string
	// SortBy are the columns rows are sorted by, the first being the most
	// significant. Empty keeps the order.
	SortBy []int
}

// New returns a table with these columns.
func New(columns ...Column) *Table { return &Table{Columns: columns} }

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// WriteAligned writes the style of stat, edges and routes: columns three
// spaces apart, none after the last.
func (t *Table) WriteAligned(w io.Writer) error { return t.write(w, "   ", false) }

// WritePadded writes the style of authz and stat-inbound: two spaces after
// every column, the last too, and tree marks drawn through to the next cell.
func (t *Table) WritePadded(w io.Writer) error { return t.write(w, "  ", true) }

func (t *Table) write(w io.Writer, gap string, last bool) error {
	t.sort()
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = utf8.RuneCountInString(c.Header)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	shown := 0
	for i, c := range t.Columns {
		if !c.Hide {
			shown = i
		}
	}
	line := func(cell func(i int) string) string {
		var b strings.Builder
		for i, c := range t.Columns {
			if c.Hide {
				continue
			}
			text := cell(i)
			fill := " "
			if strings.HasPrefix(text, "├─") || strings.HasPrefix(text, "└─") || strings.HasPrefix(text, "─") {
				fill = "─"
			}
			padding := strings.Repeat(fill, widths[i]-utf8.RuneCountInString(text))
			if c.Left {
				b.WriteString(text)
				// Trailing blanks help nobody, except where the style has them.
				if last || i != shown {
					b.WriteString(padding)
				}
			} else {
				b.WriteString(padding + text)
			}
			if last || i != shown {
				b.WriteString(gap)
			}
		}
		return b.String()
	}
	if _, err := fmt.Fprintln(w, line(func(i int) string { return t.Columns[i].Header })); err != nil {
		return err
	}
	for _, row := range t.Rows {
		if _, err := fmt.Fprintln(w, line(func(i int) string { return row[i] })); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) sort() {
	if len(t.SortBy) == 0 {
		return
	}
	sort.SliceStable(t.Rows, func(i, j int) bool {
		for _, c := range t.SortBy {
			if a, b := t.Rows[i][c], t.Rows[j][c]; a != b {
				return a < b
			}
		}
		return false
	})
}
