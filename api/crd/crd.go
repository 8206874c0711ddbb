// Package crd has the custom resource definitions of the mesh, as the API server takes them.
// The Go types of the kinds are in the directories below, one package for each version;
// package scheme registers them all.
//
// Types and definitions cannot differ: the definitions in yaml are generated from the types
// by `go run ./build/gencrd`.
//
// Source: control plane chapter, section 2.
package crd

import "embed"

// Files has one definition per file, named `yaml/<group>_<plural>.yaml`, without labels or
// annotations. It is read-only, so that any goroutine may use it.
//
//go:embed yaml/*.yaml
var Files embed.FS
