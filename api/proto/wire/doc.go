// Package wire holds the test of the wire contract: testdata/contract.txt lists every
// service, message, field and number of the APIs, transcribed from the proxy API chapter
// (section 2) and the extensions chapter (sections 3.2 and 4.4), and the test compares it
// with what the generated packages really speak. Peers of other versions depend on each
// line, so a line may be added, but not changed or removed.
package wire
