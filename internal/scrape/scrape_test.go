package scrape

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// What an endpoint says while it refuses is not taken for metrics, and a port that cannot be reached is told of as it is.
func TestText(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden, http.StatusServiceUnavailable} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/metrics" {
				t.Errorf("asked %s %s", r.Method, r.URL.Path)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, "a 1\n")
		}))
		text, err := Text(t.Context(), func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
		})
		server.Close()
		switch {
		case status == http.StatusOK && (err != nil || string(text) != "a 1\n"):
			t.Errorf("got %q, %v", text, err)
		case status != http.StatusOK && (err == nil || text != nil || !strings.Contains(err.Error(), http.StatusText(status))):
			t.Errorf("status %d: got %q, %v", status, text, err)
		}
	}
	gone := errors.New("gone")
	if _, err := Text(t.Context(), func(context.Context) (net.Conn, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("got %v, want it to be %v", err, gone)
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	cases := []struct {
		name    string
		q       float64
		buckets []Bucket
		want    float64
	}{
		{"no buckets", 0.5, nil, math.NaN()},
		{"no observations", 0.5, []Bucket{{1, 0}, {inf, 0}}, math.NaN()},
		{"inside the first", 0.5, []Bucket{{10, 100}, {inf, 100}}, 5},
		{"inside the second", 0.75, []Bucket{{10, 50}, {20, 100}, {inf, 100}}, 15},
		{"at a bound", 0.5, []Bucket{{10, 50}, {20, 100}, {inf, 100}}, 10},
		{"beyond the last bound", 0.99, []Bucket{{10, 50}, {20, 60}, {inf, 100}}, 20},
		{"unsorted", 0.75, []Bucket{{inf, 100}, {20, 100}, {10, 50}}, 15},
	}
	for _, c := range cases {
		if got := Quantile(c.q, c.buckets); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	samples, err := Parse([]byte("# TYPE a counter\na{x=\"1\"} 2\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\nu 7\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, s := range samples {
		got[s.Name+s.Labels["x"]+s.Labels["le"]] = s.Value
	}
	for name, want := range map[string]float64{"a1": 2, "h_bucket1": 1, "h_bucket+Inf": 3, "h_sum": 9, "h_count": 3, "u": 7} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, err := Parse([]byte("not metrics")); err == nil {
		t.Error("text that is no metrics is accepted")
	}
}
