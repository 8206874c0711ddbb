// Package e2e tests the mesh as its users meet it: the built CLI, the built
// images, on a real Kubernetes. `make e2e` starts an embedded cluster and runs
// it; LINKERD_E2E names the kubeconfig of the cluster to use, and without it
// every test is skipped.
//
// Each test has a namespace of its own, named after it and removed at its end;
// LINKERD_E2E_KEEP=1 leaves it for a look. The mesh is installed once, by
// TestMain, with the commands of the README. Tests run one after the other:
// several of them disturb the control plane. Within TestPolicies, which performs
// the scenes of testdata/policy, two scenes at a time have a stage each.
//
// The package has no code outside of tests.
package e2e
