//go:build race

package main

// raceEnabled says that the race detector is on, which slows the proxy down.
const raceEnabled = true
