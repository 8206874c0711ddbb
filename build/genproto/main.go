// Command genproto generates the Go code of the wire APIs under api/proto, a lean
// rendering of those that the proxy speaks under api/lean, and the Go code of the
// sample shop's own under sample/shoppb.
//
// Run it from anywhere inside the module:
//
//	go run ./build/genproto          rewrite the *.pb.go beside each source, and *.lean.go
//	go run ./build/genproto -check   fail if that would change anything
//
// It needs neither protoc nor anything installed: the sources are compiled in this
// process, and the two standard plugins run as tools of the module, so that go.mod alone
// decides the versions and two machines produce the same bytes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/linkerd-go/linkerd-go/build/generated"
)

// sourceDirs are searched for sources and for what was generated, relative to the module root. Import statements
// and registered file names use paths from the module root, so that they cannot collide
// with another project's `net.proto` in the same program.
var sourceDirs = []string{"api/proto", "api/lean", "sample/shoppb"}

// A plugin is a code generator that speaks protoc's plugin protocol.
type plugin struct {
	tool      string // name for `go tool`
	suffix    string // of the files it writes
	documents bool   // its files carry the package comment
}

var plugins = []plugin{
	{tool: "protoc-gen-go", suffix: ".pb.go", documents: true},
	{tool: "protoc-gen-go-grpc", suffix: "_grpc.pb.go"},
}

func main() {
	check := flag.Bool("check", false, "compare with the files on disk instead of writing them")
	flag.Parse()
	if err := run(context.Background(), *check); err != nil {
		fmt.Fprintln(os.Stderr, "genproto:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	root, err := generated.ModuleDir(ctx, "")
	if err != nil {
		return err
	}
	want, err := generate(ctx, root)
	if err != nil {
		return err
	}
	have, err := generated.Read(root, sourceDirs, isGenerated)
	if err != nil {
		return err
	}
	if check {
		return generated.Check(have, want, "go run ./build/genproto")
	}
	return generated.Write(root, have, want)
}

// generate returns all files that are generated.
func generate(ctx context.Context, root string) (generated.Files, error) {
	sources, err := generated.List(root, sourceDirs, func(name string) bool { return strings.HasSuffix(name, ".proto") })
	if err != nil {
		return nil, err
	}
	request, err := compile(ctx, root, sources)
	if err != nil {
		return nil, err
	}
	input, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encoding the plugin request: %w", err)
	}
	files := generated.Files{}
	for _, p := range plugins {
		if err := p.run(ctx, root, input, files); err != nil {
			return nil, fmt.Errorf("%s: %w", p.tool, err)
		}
	}
	if err := generateLean(request, files); err != nil {
		return nil, fmt.Errorf("lean rendering: %w", err)
	}
	return files, nil
}

// compile builds the request that protoc would send to its plugins.
func compile(ctx context.Context, root string, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments of the sources become doc comments
	}
	compiled, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return nil, fmt.Errorf("compiling: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("paths=source_relative"),
	}
	seen := map[string]bool{}
	for _, file := range compiled {
		request.ProtoFile = appendWithImports(request.ProtoFile, file, seen)
	}
	return request, nil
}

// appendWithImports appends a file after the files it imports, each once, which is the
// order that plugins require.
func appendWithImports(files []*descriptorpb.FileDescriptorProto, file protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[file.Path()] {
		return files
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		imported := imports.Get(i).FileDescriptor
		if result, ok := file.(linker.File); ok {
			// The import of a compiled file is a bare placeholder in some cases; the
			// linker's view is always complete.
			if f := result.FindImportByPath(imported.Path()); f != nil {
				imported = f
			}
		}
		files = appendWithImports(files, imported, seen)
	}
	return append(files, protoutil.ProtoFromFileDescriptor(file))
}

// run feeds the request to the plugin and adds what it returns to files.
func (p plugin) run(ctx context.Context, root string, input []byte, files generated.Files) error {
	cmd := exec.CommandContext(ctx, "go", "tool", p.tool)
	cmd.Dir = root
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(output, response); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		if !strings.HasSuffix(file.GetName(), p.suffix) {
			return fmt.Errorf("unexpected file %s", file.GetName())
		}
		content := []byte(file.GetContent())
		if p.documents {
			content = attachPackageComment(content)
		}
		files[file.GetName()] = content
	}
	return nil
}

// attachPackageComment makes the comment on a source's package statement the doc comment
// of the Go package. The plugin copies it, but leaves an empty line that detaches it.
func attachPackageComment(content []byte) []byte {
	head, rest, found := bytes.Cut(content, []byte("\n\npackage "))
	last := bytes.LastIndex(head, []byte("\n\n"))
	if !found || !bytes.HasPrefix(head[last+1:], []byte("\n// Package ")) {
		return content
	}
	return slices.Concat(head, []byte("\npackage "), rest)
}

// isGenerated says whether a file is ours to rewrite and to remove.
func isGenerated(name string) bool {
	return strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, leanSuffix)
}
