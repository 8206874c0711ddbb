package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/inject"
)

// transformer changes objects.
type transformer interface {
	// transform changes an object in place, or returns another, and says what became of it.
	transform(object map[string]any) (map[string]any, result, error)
	// report writes what became of all objects of one input.
	report(w io.Writer, results []result)
}

// result is what became of one object.
type result struct {
	// kind is empty for a document without one.
	kind, name string
	// decision is about objects with pods that injection was considered for.
	decision inject.Decision
	// considered says that there is a decision.
	considered bool
	// udp, hostNetwork and the like are reported whatever the decision.
	facts inject.Facts
	// annotatable says that the kind may carry annotations of ours; annotated that it got some.
	annotatable, annotated bool
	// injected and uninjected say what was done.
	injected, uninjected bool
	// warnings are about annotations that were not understood.
	warnings []string
}

func (r result) String() string { return r.kind + "/" + r.name }

// run transforms what an argument stands for. Standard output gets all documents, or nothing at all when any of them could
// not be transformed; reports go to standard error.
func run(w *command.World, arg, format string, t transformer) error {
	inputs, err := read(w, arg)
	if err != nil {
		return err
	}
	out := &writer{json: format == "json"}
	var reports bytes.Buffer
	var failures []string
	for _, in := range inputs {
		results, errs := transformInput(in, out, t)
		for _, err := range errs {
			failures = append(failures, err.Error())
		}
		t.report(&reports, results)
	}
	if len(failures) > 0 {
		fmt.Fprintf(w.Err, "Error transforming resources:\n%s", strings.Join(failures, "\n"))
		return command.Silent()
	}
	if _, err := w.Out.Write(out.Bytes()); err != nil {
		return fmt.Errorf("writing the documents: %w", err)
	}
	_, err = w.Err.Write(reports.Bytes())
	return err
}

// transformInput transforms the documents of one input, and goes on after errors so that all of them are told at once.
func transformInput(in input, out *writer, t transformer) ([]result, []error) {
	var results []result
	var errs []error
	for _, d := range split(in.data) {
		if d.isComment() {
			errs = appendError(errs, out.unchanged(d))
			continue
		}
		object, err := d.object()
		if err != nil {
			errs = append(errs, d.locate(in, err))
			continue
		}
		before, err := json.Marshal(object)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		after, rs, err := transformDocument(object, t)
		results = append(results, rs...)
		if err != nil {
			errs = append(errs, d.locate(in, err))
			continue
		}
		now, err := json.Marshal(after)
		switch {
		case err != nil:
			errs = append(errs, err)
		case bytes.Equal(before, now):
			errs = appendError(errs, out.unchanged(d))
		default:
			errs = appendError(errs, out.object(after))
		}
	}
	return results, errs
}

// refusal is an error about an object that is understood; it names the object itself.
type refusal struct{ error }

// locate says where a document is that cannot be understood.
func (d document) locate(in input, err error) error {
	var r refusal
	if errors.As(err, &r) {
		return err
	}
	return fmt.Errorf("%s: document %d (line %d): %w", in.name, d.number, d.line, err)
}

func appendError(errs []error, err error) []error {
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

// transformDocument transforms an object, or each item of a List.
func transformDocument(object map[string]any, t transformer) (map[string]any, []result, error) {
	items, isList := object["items"].([]any)
	if !isList || object["kind"] != "List" {
		after, r, err := t.transform(object)
		return after, []result{r}, err
	}
	var results []result
	var failures []error
	for i, item := range items {
		o, ok := item.(map[string]any)
		if !ok {
			return nil, results, fmt.Errorf("item %d of a List is not an object", i)
		}
		after, r, err := t.transform(o)
		results = append(results, r)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		items[i] = after
	}
	return object, results, errors.Join(failures...)
}

// parse reads an object the way injection does.
func parse(object map[string]any) (*inject.Object, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return inject.Parse(data)
}
