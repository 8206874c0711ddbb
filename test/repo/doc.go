// Package repo holds the checks on the repository itself: which way imports
// point, that packages introduce themselves, that the maps are true, that locks
// say what they guard and tests look for goroutines that are left. They are
// tests so that breaking a rule fails with a message that says what the rule
// is for. The package has no code of its own.
package repo
