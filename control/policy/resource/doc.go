// Package resource turns objects of the Kubernetes API into what package core decides with.
//
//	reader := resource.Reader{Config: &config, Warn: warn}
//	server, err := reader.Server(object)
//
// An error means that the object cannot be used as a whole; it names the field and what is wrong with it, because the
// admission webhook shows it to the object's author. What is wrong but leaves the rest useful is told to Warn. A Reader may
// be used from any goroutine if its Warn may.
package resource
