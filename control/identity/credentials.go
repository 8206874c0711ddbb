package identity

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/dirwatch"
)

// Files say where the issuer and the trust anchors are.
type Files struct {
	// Cert and Key are the issuer's certificate, with the chain above it, and its key.
	Cert, Key string
	// Roots are the trust anchors.
	Roots string
}

// Credentials hold the current issuer and replace it when its files change.
type Credentials struct {
	files  Files
	events Events
	logger *slog.Logger

	// reloading is held while files are read and an issuer is replaced, so that two changes at once (the issuer's
	// directory and that of the trust anchors) cannot leave the older one in use. It guards nothing else and may be held
	// during file I/O.
	reloading sync.Mutex
	current   atomic.Pointer[Issuer]
	// loaded is closed with the first issuer.
	loaded chan struct{}
}

// NewCredentials returns credentials without an issuer.
func NewCredentials(files Files, events Events, logger *slog.Logger) *Credentials {
	return &Credentials{files: files, events: events, logger: logger, loaded: make(chan struct{})}
}

// Issuer returns the current issuer, or nil before the first successful load.
func (c *Credentials) Issuer() *Issuer { return c.current.Load() }

// Loaded is closed when there is an issuer for the first time.
func (c *Credentials) Loaded() <-chan struct{} { return c.loaded }

// set puts an issuer into use. The caller holds reloading.
func (c *Credentials) set(issuer *Issuer) {
	if c.current.Swap(issuer) == nil {
		close(c.loaded)
	}
}

// Load reads the issuer for the first time.
func (c *Credentials) Load() error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	issuer, err := c.read()
	if err != nil {
		return err
	}
	c.set(issuer)
	return nil
}

// Reload reads the files again. A good issuer replaces the current one; a bad one, or one that does not lead to the trust
// anchors, leaves it in use. Either is told as an event; files that did not change are not. Issuer and trust anchors are
// taken together: while the two are being changed one after the other the old pair stays in use.
func (c *Credentials) Reload() {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	issuer, err := c.read()
	if err != nil {
		c.logger.Warn("issuer not updated; keeping the old one", "error", err)
		c.events.IssuerUpdateSkipped(fmt.Sprintf("Skipping issuer update as certs could not be read from disk: %v", err))
		return
	}
	if old := c.current.Load(); old != nil && old.pems == issuer.pems {
		return
	}
	c.set(issuer)
	c.logger.Info("issuer updated", "until", issuer.NotAfter())
	c.events.IssuerUpdated("Updated identity issuer")
}

func (c *Credentials) read() (*Issuer, error) {
	var content [3][]byte
	for i, file := range []string{c.files.Cert, c.files.Key, c.files.Roots} {
		var err error
		if content[i], err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("reading issuer credentials: %w", err)
		}
	}
	return NewIssuer(content[0], content[1], content[2], time.Now())
}

// Watch reloads the issuer each time the directory of its certificate or that of the trust anchors changes, until ctx is
// done.
func (c *Credentials) Watch(ctx context.Context) {
	var watching sync.WaitGroup
	dirs := map[string]bool{filepath.Dir(c.files.Cert): true, filepath.Dir(c.files.Roots): true}
	for dir := range dirs {
		watching.Go(func() { dirwatch.Run(ctx, dir, c.logger, c.Reload) })
	}
	watching.Wait()
}

// TTL returns the seconds until the issuer's certificate expires, for the metric issuer_cert_ttl_seconds; 0 before the
// first load.
func (c *Credentials) TTL() float64 {
	issuer := c.current.Load()
	if issuer == nil {
		c.logger.Warn("issuer lifetime asked for before the issuer was loaded")
		return 0
	}
	return time.Until(issuer.cert.NotAfter).Seconds()
}

// AnchorTTL returns the seconds until the last of the trust anchors expires, for the metric trust_anchor_ttl_seconds; 0 before
// the first load. Upstream has no such metric: control plane chapter, section 18.4.
func (c *Credentials) AnchorTTL() float64 {
	issuer := c.current.Load()
	if issuer == nil {
		return 0
	}
	return time.Until(issuer.end).Seconds()
}
