package index

import (
	"cmp"
	"context"
	"slices"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// View is what the index knows at one moment. It may be used only during the call that it is passed to; the objects that it
// returns may be kept, but not changed.
type View struct {
	core.Lookup
	tables *tables
}

// View calls f with what the index knows, on the index's goroutine: f must be quick and must not block. It returns ErrStopped
// or the context's error if f was not called, or not waited for.
func (x *Index) View(ctx context.Context, f func(View)) error {
	return x.do(ctx, func() {
		// Nobody waits for changes of what is looked at here, so that the facts that are noted go nowhere.
		r := &reader{tables: x.tables}
		f(View{Lookup: r, tables: x.tables})
	})
}

// Workload returns a workload, or nil if it is not in the mesh.
func (v View) Workload(key WorkloadKey) *core.Workload { return v.tables.workloads[key] }

// Workloads returns the workloads of a namespace, of those that are alike one.
func (v View) Workloads(namespace string) []*core.Workload {
	return v.tables.sorts(namespace)
}

// Unusable is an object whose newest version cannot be used. An older version that could be stays in force.
type Unusable struct {
	Group, Kind string
	core.ID
	Err error
}

// Unusable returns the objects of a namespace that cannot be used, by kind and name.
func (v View) Unusable(namespace string) []Unusable {
	var list []Unusable
	for key, err := range v.tables.unusable[namespace] {
		list = append(list, Unusable{key.group, key.kind, core.ID{Namespace: namespace, Name: key.name}, err})
	}
	slices.SortFunc(list, func(a, b Unusable) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return list
}
