// Package controlplane tests the controllers as processes against a real
// Kubernetes API server that fails them: it is killed and comes back, its
// watches expire, its network is cut, a leader dies, clients of the
// controllers stop reading, a linked cluster crashes, and resources arrive
// that admission should have refused.
//
// Only an API server and etcd run, from the devcluster binary (see package
// kubeapi); no node. LINKERD_DEVCLUSTER names that binary, and without it
// every test is skipped; `make controlplane` builds it and runs the package.
// Each controller runs with the arguments, the mounted files and the rights
// that the chart gives it.
//
// The tests of a package share nothing and run side by side: most of their
// time is waiting for leases and time-outs to pass.
//
// The package has no code outside of tests; child and kubeapi below it have.
package controlplane
