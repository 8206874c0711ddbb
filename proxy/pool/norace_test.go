//go:build !race

package pool

// raceEnabled says that the race detector is on, which allocates itself.
const raceEnabled = false
