// Package sample is a small shop that speaks every kind of protocol a mesh
// meets, to show and to test the mesh on: HTTP/1.1, gRPC unary and streaming,
// a TCP protocol in which the server speaks first, and a Job that has to
// complete. Its parts are one static binary, cmd/shop; shop.yaml deploys them.
package sample

import _ "embed"

// Manifest is shop.yaml, what `kubectl apply` takes to deploy the shop.
//
//go:embed shop.yaml
var Manifest string
