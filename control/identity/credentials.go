package identity

import (
	"context"
	"crypto/x509"
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
	// former are the anchors of issuers before the current one; it is replaced, not changed, with reloading held.
	former atomic.Pointer[[]Former]
	// shared is what the replicas knew together when they exchanged it last; guarded by reloading.
	shared []Former
	// changed holds a token after former has.
	changed chan struct{}
	// loaded is closed with the first issuer.
	loaded chan struct{}
}

// NewCredentials returns credentials without an issuer.
func NewCredentials(files Files, events Events, logger *slog.Logger) *Credentials {
	return &Credentials{files: files, events: events, logger: logger, loaded: make(chan struct{}), changed: make(chan struct{}, 1)}
}

// Issuer returns the current issuer, or nil before the first successful load.
func (c *Credentials) Issuer() *Issuer { return c.current.Load() }

// Loaded is closed when there is an issuer for the first time.
func (c *Credentials) Loaded() <-chan struct{} { return c.loaded }

// set puts an issuer into use. The caller holds reloading.
func (c *Credentials) set(issuer *Issuer) {
	old := c.current.Load()
	if old == nil {
		c.current.Store(issuer)
		close(c.loaded)
		return
	}
	if !old.cert.Equal(issuer.cert) {
		// Before the issuer: who sees the new one must see them.
		c.formerly(old.anchors(time.Now()))
	}
	c.current.Store(issuer)
}

// formerly remembers anchors under which leaves were issued up to now. The caller holds reloading.
func (c *Credentials) formerly(anchors []*x509.Certificate) {
	var former, more []Former
	if p := c.former.Load(); p != nil {
		former = *p
	}
	for _, anchor := range anchors {
		more = append(more, Former{anchor, time.Now()})
	}
	former = combine(former, more)
	c.former.Store(&former)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// maxFormer limits the anchors that are kept: more than this many in the life of a leaf are a test.
const maxFormer = 8

// Bundle returns the trust anchors for proxies, PEM, or nil before the first load: those of the file, and those under which a
// leaf may still live. An anchor that is taken away too early, as by who knows only of the new one, cuts off nobody. An operator
// makes it leave at once by taking it out of what is remembered; see Remembered.
func (c *Credentials) Bundle(lifetimes Lifetimes, now time.Time) []byte {
	issuer := c.current.Load()
	if issuer == nil {
		return nil
	}
	var needed []*x509.Certificate
	if former := c.former.Load(); former != nil {
		for _, f := range *former {
			if !f.over(lifetimes, now) {
				needed = append(needed, f.Anchor)
			}
		}
	}
	return withAnchors(issuer.bundle, needed)
}

// Load reads the issuer for the first time. One that leads to a former anchor only is used beside that; see Reload.
func (c *Credentials) Load() error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	files, err := c.read()
	if err != nil {
		return err
	}
	issuer, err := files.issuer(time.Now())
	if former := c.former.Load(); err != nil && former != nil {
		var anchors []*x509.Certificate
		for _, f := range *former {
			anchors = append(anchors, f.Anchor)
		}
		if beside, besideErr := files.beside(anchors, time.Now()); besideErr == nil {
			c.logger.Warn("issuer is not of the trust anchors; using it with its own beside them until it is replaced", "error", err)
			issuer, err = beside, nil
		}
	}
	if err != nil {
		return err
	}
	c.set(issuer)
	return nil
}

// Reload reads the files again. A good issuer replaces the current one; a bad one, or one that does not lead to the trust
// anchors, leaves it in use. Either is told as an event; files that did not change are not.
//
// Issuer and trust anchors are changed one after the other. Where the anchors come first, and without the one that the
// issuer is of, that one stays trusted beside them until the issuer follows.
func (c *Credentials) Reload() {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	old := c.current.Load()
	skip := func(err error) {
		c.logger.Warn("issuer not updated; keeping the old one", "error", err)
		c.events.IssuerUpdateSkipped(fmt.Sprintf("Skipping issuer update as certs could not be read from disk: %v", err))
	}
	files, err := c.read()
	if err != nil {
		skip(err)
		return
	}
	if old != nil && old.pems == files {
		return
	}
	now := time.Now()
	issuer, err := files.issuer(now)
	switch {
	case err == nil:
		c.set(issuer)
		c.logger.Info("issuer updated", "until", issuer.NotAfter())
		c.events.IssuerUpdated("Updated identity issuer")
	case old != nil && old.pems.cert == files.cert && old.pems.key == files.key:
		issuer, bothErr := files.beside(old.anchors(now), now)
		if bothErr != nil {
			skip(err)
			return
		}
		c.set(issuer)
		// A replica that starts now has seen nothing of it.
		c.formerly(issuer.anchors(now))
		c.logger.Warn("issuer is not of the new trust anchors; keeping its own beside them until it is replaced", "error", err)
		c.events.IssuerUpdateSkipped(fmt.Sprintf("The trust anchors were replaced and the issuer was not, whose own stays trusted until it is: %v", err))
	default:
		skip(err)
	}
}

func (c *Credentials) read() (pems, error) {
	var out pems
	for _, f := range []struct {
		path string
		to   *string
	}{{c.files.Cert, &out.cert}, {c.files.Key, &out.key}, {c.files.Roots, &out.roots}} {
		content, err := os.ReadFile(f.path)
		if err != nil {
			return out, fmt.Errorf("reading issuer credentials: %w", err)
		}
		*f.to = string(content)
	}
	return out, nil
}

func (p pems) issuer(now time.Time) (*Issuer, error) {
	return NewIssuer([]byte(p.cert), []byte(p.key), []byte(p.roots), now)
}

// beside makes an issuer whose bundle has more anchors than the file: those of the given ones that it leads to.
func (p pems) beside(anchors []*x509.Certificate, now time.Time) (*Issuer, error) {
	both := p
	both.roots = string(withAnchors([]byte(p.roots), anchors))
	issuer, err := both.issuer(now)
	if err != nil {
		return nil, err
	}
	if own := issuer.anchors(now); len(own) < len(anchors) {
		both.roots = string(withAnchors([]byte(p.roots), own))
		if issuer, err = both.issuer(now); err != nil {
			return nil, err
		}
	}
	issuer.pems, issuer.beside = p, true
	return issuer, nil
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
