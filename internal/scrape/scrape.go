// Package scrape reads Prometheus metrics from ports of pods.
//
// Usage:
//
//	text, err := scrape.Text(ctx, dial)          // as the pod sent it
//	samples, err := scrape.Parse(text)           // name, labels, value
//
// The functions keep no state and may be called from any goroutine.
package scrape

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sort"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Dial connects to the port to be scraped.
type Dial func(ctx context.Context) (net.Conn, error)

// maxBody bounds what one pod can send.
const maxBody = 256 << 20

// Text fetches /metrics.
func Text(ctx context.Context, dial Dial) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics endpoint answered %s", response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxBody))
}

// Sample is one time series at one moment. Histograms come as their _bucket,
// _sum and _count series.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Parse reads the text format.
func Parse(text []byte) ([]Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var out []Sample
	for name, family := range families {
		for _, m := range family.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				out = append(out, Sample{name, labels, m.GetCounter().GetValue()})
			case dto.MetricType_GAUGE:
				out = append(out, Sample{name, labels, m.GetGauge().GetValue()})
			case dto.MetricType_UNTYPED:
				out = append(out, Sample{name, labels, m.GetUntyped().GetValue()})
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				for _, b := range h.Bucket {
					with := map[string]string{"le": fmt.Sprint(b.GetUpperBound())}
					for k, v := range labels {
						with[k] = v
					}
					out = append(out, Sample{name + "_bucket", with, float64(b.GetCumulativeCount())})
				}
				out = append(out,
					Sample{name + "_sum", labels, h.GetSampleSum()},
					Sample{name + "_count", labels, float64(h.GetSampleCount())})
			}
		}
	}
	return out, nil
}

// Bucket is one cumulative bucket of a histogram.
type Bucket struct {
	UpperBound float64
	Count      float64
}

// Quantile estimates a quantile from cumulative buckets by linear
// interpolation, as Prometheus' histogram_quantile does; NaN without
// observations.
func Quantile(q float64, buckets []Bucket) float64 {
	sort.Slice(buckets, func(i, j int) bool { return buckets[i].UpperBound < buckets[j].UpperBound })
	n := len(buckets)
	if n < 2 || buckets[n-1].Count == 0 {
		return math.NaN()
	}
	rank := q * buckets[n-1].Count
	i := sort.Search(n-1, func(i int) bool { return buckets[i].Count >= rank })
	if i == n-1 {
		// Beyond the last finite bound nothing is known.
		return buckets[n-2].UpperBound
	}
	lower, before := 0.0, 0.0
	if i > 0 {
		lower, before = buckets[i-1].UpperBound, buckets[i-1].Count
	} else if buckets[0].UpperBound <= 0 {
		return buckets[0].UpperBound
	}
	inside := buckets[i].Count - before
	if inside == 0 {
		return buckets[i].UpperBound
	}
	return lower + (buckets[i].UpperBound-lower)*(rank-before)/inside
}
