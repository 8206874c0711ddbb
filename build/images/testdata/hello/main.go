// Command hello stands for a program of ours in the tests of the image builder.
package main

import "crypto/fips140"

func main() { println("hello, fips140", fips140.Enabled()) }
