package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/inject"
)

// document is one document of an input.
type document struct {
	// text as it was written, without separators.
	text []byte
	// number counts from 1, line is where the document begins.
	number, line int
}

// split cuts an input into its documents at lines that begin with `---`, and values of a JSON stream apart. Documents of
// blanks alone are left out.
func split(data []byte) []document {
	var documents []document
	var current bytes.Buffer
	start, line := 1, 0
	end := func() {
		text := bytes.TrimRight(current.Bytes(), " \t\r\n")
		if len(bytes.TrimSpace(text)) > 0 {
			for _, part := range splitJSON(text) {
				documents = append(documents, document{text: bytes.Clone(part), number: len(documents) + 1, line: start})
			}
		}
		current.Reset()
	}
	for text := range bytes.Lines(data) {
		line++
		rest, separator := bytes.CutPrefix(text, []byte("---"))
		separator = separator && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
		switch {
		case separator:
			end()
			start = line + 1
			// A document may begin on the line of its separator.
			if rest = bytes.TrimLeft(rest, " \t"); len(bytes.TrimSpace(rest)) > 0 {
				current.Write(rest)
				start = line
			}
		case bytes.Equal(bytes.TrimRight(text, "\r\n"), []byte("...")):
			end()
			start = line + 1
		default:
			current.Write(text)
		}
	}
	end()
	return documents
}

// splitJSON cuts a stream of JSON values apart. What is not JSON, or is a single value, comes back whole.
func splitJSON(text []byte) [][]byte {
	trimmed := bytes.TrimSpace(text)
	if trimmed[0] != '{' {
		return [][]byte{text}
	}
	var parts [][]byte
	decoder := json.NewDecoder(bytes.NewReader(trimmed))
	for {
		var part json.RawMessage
		err := decoder.Decode(&part)
		if err == io.EOF {
			return parts
		}
		if err != nil {
			return [][]byte{text}
		}
		parts = append(parts, part)
	}
}

// isComment says that a document has no content.
func (d document) isComment() bool {
	for line := range strings.Lines(string(d.text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// object decodes the document.
func (d document) object() (map[string]any, error) {
	data, err := yaml.YAMLToJSON(d.text)
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// decode reads a JSON object and keeps its numbers as they are written.
func decode(data []byte) (map[string]any, error) {
	if data = bytes.TrimSpace(data); len(data) == 0 || data[0] != '{' {
		return nil, fmt.Errorf("%w: %.40s", inject.ErrNotAnObject, data)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("%w: %w", inject.ErrNotAnObject, err)
	}
	return object, nil
}

// writer collects documents in one of the formats of the -o flag.
type writer struct {
	bytes.Buffer
	json bool
}

// unchanged writes a document as it was.
func (w *writer) unchanged(d document) error {
	if w.json {
		if d.isComment() {
			return nil // JSON has none
		}
		object, err := d.object()
		if err != nil {
			return err
		}
		return w.object(object)
	}
	w.Write(d.text)
	w.WriteString("\n---\n")
	return nil
}

// object writes an object.
func (w *writer) object(object map[string]any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	if w.json {
		w.Write(data)
		w.WriteString("\n")
		return nil
	}
	text, err := yaml.JSONToYAML(data)
	if err != nil {
		return err
	}
	w.Write(text)
	w.WriteString("---\n")
	return nil
}
