// Package policy tests that what the policy controller says of a policy is what a proxy does with it: explanations are
// compared with the decisions of the proxy's own functions on the same compiled policy, for cases drawn at random.
//
// The package has no code outside of tests.
package policy
