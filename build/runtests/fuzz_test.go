package main

import (
	"slices"
	"testing"
)

// TestFuzzTargets: every parser that faces a network has a fuzz target that is
// found and run.
func TestFuzzTargets(t *testing.T) {
	targets, err := fuzzTargets("../..")
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]fuzzTarget{
		"HTTP/1 requests":               {"./proxy/h1", "FuzzRequests"},
		"HTTP/1 responses":              {"./proxy/h1", "FuzzResponses"},
		"HTTP/2 frames, as a server":    {"./proxy/h2", "FuzzServer"},
		"HTTP/2 frames, as a client":    {"./proxy/h2", "FuzzClient"},
		"HPACK":                         {"./proxy/h2/hpack", "FuzzDecode"},
		"ClientHello":                   {"./proxy/detect", "FuzzClientHello"},
		"first bytes of HTTP":           {"./proxy/detect", "FuzzHTTP"},
		"PROXY protocol":                {"./proxy/detect", "FuzzProxy"},
		"transport header":              {"./proxy/thdr", "FuzzParse"},
		"messages of the control plane": {"./api/lean", "FuzzParse"},
		"outbound policies":             {"./proxy/discovery/decode", "FuzzClientPolicy"},
		"inbound policies":              {"./proxy/discovery/decode", "FuzzServerPolicy"},
		"profiles":                      {"./proxy/discovery/decode", "FuzzProfile"},
		"what routes see of a request":  {"./proxy/route", "FuzzFind"},
		"answers of name servers":       {"./proxy/dns", "FuzzAnswer"},
		"targets and Host fields":       {"./proxy/uri", "FuzzNormalize"},
		"trace contexts":                {"./proxy/tracing", "FuzzContext"},
	} {
		if !slices.Contains(targets, want) {
			t.Errorf("%s: there is no %s in %s", what, want.name, want.pkg)
		}
	}
}
