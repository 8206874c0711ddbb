package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/internal/dirwatch"
)

// DefaultCertDir is where the charts mount the webhook's Secret, with the keys tls.crt and tls.key.
const DefaultCertDir = "/var/run/linkerd/tls"

// Certificate is a certificate with its key, read from files and replaced when they change. Each handshake uses the
// current one. It may be used from any goroutine.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

// LoadCertificate reads tls.crt and tls.key from dir.
func LoadCertificate(dir string) (*Certificate, error) {
	return LoadCertificateFiles(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
}

// LoadCertificateFiles reads the two named files, which should be in the same directory: Watch follows that of the
// certificate.
func LoadCertificateFiles(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again. After an error the certificate stays what it was.
func (c *Certificate) Reload() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("loading webhook certificate %s: %w", c.certFile, err)
	}
	c.current.Store(&pair)
	return nil
}

// Watch reloads the certificate each time its directory changes, until ctx is done.
func (c *Certificate) Watch(ctx context.Context, logger *slog.Logger) {
	dirwatch.Run(ctx, filepath.Dir(c.certFile), logger, func() {
		old := c.current.Load()
		if err := c.Reload(); err != nil {
			logger.Warn("webhook certificate not reloaded; keeping the old one", "error", err)
			return
		}
		if slices.EqualFunc(old.Certificate, c.current.Load().Certificate, bytes.Equal) {
			return
		}
		logger.Info("webhook certificate reloaded", "file", c.certFile)
	})
}

// get serves tls.Config.GetCertificate.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// TTL returns the metric webhook_cert_ttl_seconds about the certificate that is served, whoever keeps it. Upstream has none:
// control plane chapter, section 18.4.
func (c *Certificate) TTL(webhook string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "webhook_cert_ttl_seconds",
		Help:        "Seconds until the certificate that the webhook serves expires.",
		ConstLabels: prometheus.Labels{"webhook": webhook},
	}, func() float64 { return time.Until(c.current.Load().Leaf.NotAfter).Seconds() })
}
