package ready_test

import (
	"slices"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/ready"
)

func TestLastOneOutOpensTheDoor(t *testing.T) {
	var gate ready.Gate
	if !gate.Ready() {
		t.Fatal("a gate that nobody holds must be open")
	}
	a1, a2, b := gate.Hold("a"), gate.Hold("a"), gate.Hold("b")
	if got, want := gate.Pending(), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Fatalf("pending: got %v, want %v", got, want)
	}
	a1()
	a1() // releasing twice must not release the other holder of the same name
	b()
	if gate.Ready() {
		t.Fatal("open although a is still held")
	}
	a2()
	if !gate.Ready() {
		t.Fatalf("still shut by %v", gate.Pending())
	}
	gate.Close()
	if gate.Ready() {
		t.Fatal("open after Close")
	}
	if got, want := gate.Pending(), []string{"stopping"}; !slices.Equal(got, want) {
		t.Fatalf("pending: got %v, want %v", got, want)
	}
}
