package policyvalidator_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policyvalidator"
	"github.com/linkerd-go/linkerd-go/internal/golden"
)

// TestAnswers gives the objects in testdata to the validator, and compares its answers with the files. Each part of a file is
// an object whose name says what is special about it; the `want` part after it is the answer. `go test
// ./control/policyvalidator -update` writes the answers; to add a case, add an object and do that.
func TestAnswers(t *testing.T) {
	config := &core.Config{ControllerNamespace: "linkerd", TrustDomain: "cluster.local", ClusterDomain: "cluster.local"}
	v := policyvalidator.New(policyvalidator.Options{
		Config: config, Logger: slog.New(slog.DiscardHandler),
		Overlaps: func(s *core.Server) []string {
			if s.Name == "second" {
				return []string{"Server emo/first is for port 8080 of the same pods, and in force there, for it is older"}
			}
			return nil
		},
	})
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) (got []txtar.File) {
		for _, part := range parts {
			if part.Name != "want" {
				got = append(got, part, txtar.File{Name: "want", Data: []byte(ask(t, v, part.Data) + "\n")})
			}
		}
		return got
	})
}

func ask(t *testing.T, v *policyvalidator.Validator, document []byte) string {
	t.Helper()
	data, err := yaml.YAMLToJSON(document)
	if err != nil {
		t.Fatalf("%s\n%v", document, err)
	}
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	gvk := object.GroupVersionKind()
	response, err := v.Admit(context.Background(), &admissionv1.AdmissionRequest{
		Kind:      metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind},
		Namespace: object.Namespace, Name: object.Name, Object: runtime.RawExtension{Raw: data},
	})
	if err != nil {
		return "error: " + err.Error()
	}
	if !response.Allowed {
		return "refused: " + response.Result.Message
	}
	return strings.TrimSpace("admitted\n" + strings.Join(response.Warnings, "\n"))
}

// FuzzAdmit checks that no object, however strange, makes the readers that the webhook and the controller share panic.
func FuzzAdmit(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range archive.Files {
			if data, err := yaml.YAMLToJSON(part.Data); err == nil && part.Name != "want" {
				f.Add(data)
			}
		}
	}
	v := policyvalidator.New(policyvalidator.Options{Config: &core.Config{}, Logger: slog.New(slog.DiscardHandler)})
	kinds := []metav1.GroupVersionKind{
		{Group: "policy.linkerd.io", Kind: "AuthorizationPolicy"}, {Group: "policy.linkerd.io", Kind: "MeshTLSAuthentication"},
		{Group: "policy.linkerd.io", Kind: "NetworkAuthentication"}, {Group: "policy.linkerd.io", Kind: "Server"},
		{Group: "policy.linkerd.io", Kind: "ServerAuthorization"}, {Group: "policy.linkerd.io", Kind: "EgressNetwork"},
		{Group: "policy.linkerd.io", Kind: "HTTPLocalRateLimitPolicy"}, {Group: "policy.linkerd.io", Kind: "HTTPRoute"},
		{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"}, {Group: "gateway.networking.k8s.io", Kind: "GRPCRoute"},
		{Group: "gateway.networking.k8s.io", Kind: "TLSRoute"}, {Group: "gateway.networking.k8s.io", Kind: "TCPRoute"},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range kinds {
			if _, err := v.Admit(t.Context(), &admissionv1.AdmissionRequest{Kind: kind, Object: runtime.RawExtension{Raw: data}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
