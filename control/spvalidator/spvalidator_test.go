package spvalidator_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/spvalidator"
)

// TestProfiles asks about each file of testdata: a part `profile.yaml` and a part with what a user is told, which is
// `answer` and holds `allowed`, `allowed, warning: <text>` or the message of a denial. Add a case by adding a file.
func TestProfiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files)%2 != 0 {
				t.Fatal("profiles and answers must come in pairs")
			}
			for i := 0; i < len(archive.Files); i += 2 {
				object, err := yaml.YAMLToJSON(archive.Files[i].Data)
				if err != nil {
					t.Fatal(err)
				}
				got, err := spvalidator.Admit(t.Context(), &admissionv1.AdmissionRequest{
					Name: "by-request", Object: runtime.RawExtension{Raw: object},
				})
				if err != nil {
					t.Fatal(err)
				}
				if want := strings.TrimSpace(string(archive.Files[i+1].Data)); answer(got) != want {
					t.Errorf("%s\ngot  %s\nwant %s", archive.Files[i].Data, answer(got), want)
				}
			}
		})
	}
}

func answer(response *admissionv1.AdmissionResponse) string {
	switch {
	case !response.Allowed:
		if response.Result.Code != 400 {
			return "not 400: " + response.Result.Message
		}
		return response.Result.Message
	case len(response.Warnings) > 0:
		return "allowed, warning: " + strings.Join(response.Warnings, "; ")
	}
	return "allowed"
}
