package suite

import (
	"embed"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/echo"
	"sigs.k8s.io/gateway-api/conformance/utils/http"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

//go:embed testdata/beyond.yaml
var manifests embed.FS

// TestBeyond looks at what the suite has no test of for meshes: the path that
// arrives after a rewrite, where a redirect leads, mirrors, CORS and timeouts
// of attempts.
func TestBeyond(t *testing.T) {
	o := options(t)
	if o.RunTest != "" {
		t.Skip("one test of the suite was asked for")
	}
	o.ManifestFS = append(o.ManifestFS, manifests)
	o.ReportOutputPath = ""
	s, err := suite.NewConformanceTestSuite(o)
	require.NoError(t, err)
	tests := []suite.ConformanceTest{{
		ShortName: "RoutesOfHTTP",
		Features:  []features.FeatureName{features.SupportMesh, features.SupportHTTPRoute},
		Manifests: []string{"testdata/beyond.yaml"},
		Test:      beyond,
	}}
	s.Setup(t, tests)
	require.NoError(t, s.Run(t, tests))
}

func beyond(t *testing.T, s *suite.ConformanceTestSuite) {
	client := echo.ConnectToApp(t, s, echo.MeshAppEchoV1)
	for _, c := range []struct {
		name, path, method string
		headers            map[string]string
		status             int
		// What comes back: the server's URL, if there was one, and fields of
		// the response.
		url, host string
		want      map[string]string
	}{
		{name: "rewrite of a prefix", path: "/prefix/one?q=1", status: 200, url: "/new/one?q=1", host: "echo"},
		{name: "rewrite of path and host", path: "/full/one", status: 200, url: "/all", host: "other.example"},
		{name: "redirect", path: "/redirect/one", status: 302, want: map[string]string{"Location": "https://example.org:8443/elsewhere/one"}},
		{name: "redirect by status", path: "/status", status: 308, want: map[string]string{"Location": "http://echo/status"}},
		{
			name: "preflight", path: "/cors", method: "OPTIONS", status: 200,
			headers: map[string]string{"Origin": "https://a.example.com", "Access-Control-Request-Method": "PUT"},
			want:    map[string]string{"Access-Control-Allow-Origin": "https://a.example.com", "Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Max-Age": "60"},
		},
		{
			name: "another origin", path: "/cors", status: 200, url: "/cors", host: "echo",
			headers: map[string]string{"Origin": "https://a.example.com"},
			want:    map[string]string{"Access-Control-Allow-Origin": "https://a.example.com"},
		},
		{
			name: "an origin that is not allowed", path: "/cors", status: 200, url: "/cors", host: "echo",
			headers: map[string]string{"Origin": "https://example.org"},
			want:    map[string]string{"Access-Control-Allow-Origin": ""},
		},
		{name: "an attempt in time", path: "/timeout", status: 200, url: "/timeout", host: "echo"},
		{name: "an attempt that takes too long", path: "/timeout?delay=5s", status: 504},
	} {
		t.Run(c.name, func(t *testing.T) {
			expected := http.ExpectedResponse{
				Request:  http.Request{Host: "echo", Path: c.path, Method: c.method, Headers: c.headers},
				Response: http.Response{StatusCodes: []int{c.status}},
			}
			client.MakeRequestAndExpectEventuallyConsistentResponse(t, expected, s.TimeoutConfig)
			_, got, err := client.CaptureRequestResponseAndCompare(t, expected)
			require.NoError(t, err)
			if got.URL != c.url || got.Host != c.host {
				t.Errorf("the server got %s of %s, not %s of %s", got.URL, got.Host, c.url, c.host)
			}
			for name, want := range c.want {
				if value := got.ResponseHeaders.Get(name); value != want {
					t.Errorf("%s is %q, not %q", name, value, want)
				}
			}
		})
	}
	t.Run("mirror", func(t *testing.T) {
		to := echo.ConnectToApp(t, s, echo.MeshAppEchoV2)
		client.MakeRequestAndExpectEventuallyConsistentResponse(t, http.ExpectedResponse{
			Request:  http.Request{Host: "echo", Path: "/mirrored"},
			Response: http.Response{StatusCodes: []int{200}},
			Backend:  "echo-v1",
		}, s.TimeoutConfig)
		// Nobody answers for a mirror; its log tells.
		http.AwaitConvergence(t, s.TimeoutConfig, func(_ time.Duration) bool {
			logs, err := s.Clientset.CoreV1().Pods(to.Namespace).
				GetLogs(to.Name, &corev1.PodLogOptions{Container: "echo"}).DoRaw(t.Context())
			require.NoError(t, err)
			return strings.Contains(string(logs), "request GET /mirrored\n")
		})
	})
}
