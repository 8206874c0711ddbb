package kube

import (
	"cmp"
	"slices"
	"sync"
)

// Table is a sink that keeps the objects for readers. It may be used from any goroutine. Its zero value is empty.
type Table[T any] struct {
	mu      sync.RWMutex // guards objects
	objects map[string]map[string]T
}

// Get returns an object; namespace is empty for kinds that have none.
func (t *Table[T]) Get(namespace, name string) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	object, ok := t.objects[namespace][name]
	return object, ok
}

// List returns the objects of a namespace, sorted by name.
func (t *Table[T]) List(namespace string) []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	names := make([]string, 0, len(t.objects[namespace]))
	for name := range t.objects[namespace] {
		names = append(names, name)
	}
	slices.Sort(names)
	list := make([]T, len(names))
	for i, name := range names {
		list[i] = t.objects[namespace][name]
	}
	return list
}

// Keys returns the keys of all objects, sorted.
func (t *Table[T]) Keys() []Key {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var keys []Key
	for namespace, objects := range t.objects {
		for name := range objects {
			keys = append(keys, Key{Namespace: namespace, Name: name})
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// Apply implements Sink.
func (t *Table[T]) Apply(key Key, object T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(key, object)
}

func (t *Table[T]) put(key Key, object T) {
	if t.objects == nil {
		t.objects = make(map[string]map[string]T)
	}
	if t.objects[key.Namespace] == nil {
		t.objects[key.Namespace] = make(map[string]T)
	}
	t.objects[key.Namespace][key.Name] = object
}

// Delete implements Sink.
func (t *Table[T]) Delete(key Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.objects[key.Namespace], key.Name)
	if len(t.objects[key.Namespace]) == 0 {
		delete(t.objects, key.Namespace)
	}
}

// Replace implements Sink.
func (t *Table[T]) Replace(objects map[Key]T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects = nil
	for key, object := range objects {
		t.put(key, object)
	}
}
