// Package suite runs the official Gateway API conformance suite against the
// mesh that KUBECONFIG leads to, for the profiles MESH-HTTP and MESH-GRPC with
// every feature that a mesh can have. It is run by the command in the
// directory above, which prepares the cluster.
package suite
