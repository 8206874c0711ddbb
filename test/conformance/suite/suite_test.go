package suite

import (
	"flag"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Further flags, as --run-test, --debug and --fail-fast, are the suite's own.
var version = flag.String("mesh-version", "dev", "version of the mesh, for the report")

// TestGatewayAPI runs every test of the suite that is about meshes.
func TestGatewayAPI(t *testing.T) {
	conformance.RunConformanceWithOptions(t, options(t))
}

// options are those of the suite. They skip a test that has no cluster.
func options(t *testing.T) suite.ConformanceOptions {
	t.Helper()
	if os.Getenv("LINKERD_CONFORMANCE") == "" {
		t.Skip("needs a cluster with the mesh: make conformance")
	}
	options := conformance.DefaultOptions(t)
	options.GatewayClassName = ""
	options.NamespaceAnnotations = map[string]string{"linkerd.io/inject": "enabled"}
	// The next test uses the workloads again, and the cluster goes in the end.
	options.CleanupBaseResources = false
	options.ConformanceProfiles = []suite.ConformanceProfileName{
		suite.MeshHTTPConformanceProfileName,
		suite.MeshGRPCConformanceProfileName,
	}
	options.SupportedFeatures = meshFeatures()
	options.Implementation = confv1.Implementation{
		Organization: "linkerd-go",
		Project:      "linkerd-go",
		URL:          "https://github.com/linkerd-go/linkerd-go",
		Version:      *version,
		Contact:      []string{"https://github.com/linkerd-go/linkerd-go/issues"},
	}
	return options
}

// meshFeatures are all extended features of meshes, and those which tests of
// meshes need beside them, so that no such test is left out.
func meshFeatures() []features.FeatureName {
	all := features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures)
	for _, test := range meshTests() {
		all.Insert(test.Features...)
	}
	return sets.List(all)
}

// meshTests are the tests of the suite that are about meshes.
func meshTests() []suite.ConformanceTest {
	var list []suite.ConformanceTest
	for _, test := range tests.ConformanceTests {
		if sets.New(test.Features...).Has(features.SupportMesh) {
			list = append(list, test)
		}
	}
	return list
}

// TestEveryMeshFeatureIsAskedFor guards against a release of the suite whose
// tests of meshes are found in another way.
func TestEveryMeshFeatureIsAskedFor(t *testing.T) {
	asked := sets.New(meshFeatures()...)
	if missing := features.SetsToNamesSet(features.MeshExtendedFeatures).Difference(asked); missing.Len() > 0 {
		t.Errorf("not asked for: %v", sets.List(missing))
	}
	if asked.Has(features.SupportGateway) {
		t.Error("a test of meshes needs a gateway, which the mesh does not have")
	}
	if n := len(meshTests()); n < 20 {
		t.Errorf("found %d tests of meshes, expected 20 or more", n)
	}
}
