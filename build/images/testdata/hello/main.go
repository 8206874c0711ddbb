// Command hello stands for a program of ours in the tests of the image builder.
package main

func main() { println("hello") }
