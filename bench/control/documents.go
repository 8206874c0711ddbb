package control

import "strings"

// documents divides a YAML stream.
func documents(text string) []string { return strings.Split("\n"+text, "\n---") }
