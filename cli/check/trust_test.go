package check

import (
	"fmt"
	"testing"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestTrustOf: what a proxy's metrics say of the anchors that it uses.
func TestTrustOf(t *testing.T) {
	const bundle = "-----BEGIN CERTIFICATE-----\n"
	gauge := func(v float64) string {
		return fmt.Sprintf("# TYPE %s gauge\n%[1]s %f\n", names.MetricTrustAnchorsHash, v)
	}
	for name, c := range map[string]struct {
		metrics string
		want    trust
	}{
		"a proxy of others":        {"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1\n", trustUnknown},
		"nothing taken yet":        {gauge(0), trustOther},
		"those of before":          {gauge(names.TrustBundleHash([]byte("others"))), trustOther},
		"those of the present":     {gauge(names.TrustBundleHash([]byte(bundle))), trustPresent},
		"no metrics, as if asleep": {"", trustUnknown},
	} {
		samples, err := scrape.Parse([]byte(c.metrics))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := trustOf(samples, bundle); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
