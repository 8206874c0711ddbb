package identity

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Former is a trust anchor of an issuer that is not in use any more. Certificates that lead to it may still live.
type Former struct {
	Anchor *x509.Certificate
	// Until is when the last of them was issued, at the latest.
	Until time.Time
}

// Memory is what the replicas know together of former anchors. What one has seen change, one that was started later has not,
// and proxies that ask now the one and now the other must get the same answer.
type Memory interface {
	// Exchange replaces what is remembered by what add makes of it, and returns that. add may be called several times.
	Exchange(ctx context.Context, add func(remembered []Former) []Former) ([]Former, error)
}

// Remembered is the Memory in a ConfigMap of the control plane's namespace, which the chart makes. Who may write there may
// also write the trust anchors themselves.
type Remembered struct {
	ConfigMaps typedcorev1.ConfigMapInterface
}

var _ Memory = Remembered{}

// remembered is a Former as it is written.
type remembered struct {
	Certificate string    `json:"certificate"`
	Until       time.Time `json:"until"`
}

// Exchange implements Memory.
func (r Remembered) Exchange(ctx context.Context, add func([]Former) []Former) ([]Former, error) {
	var all []Former
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		object, err := r.ConfigMaps.Get(ctx, names.ConfigMapFormerAnchors, metav1.GetOptions{})
		if err != nil {
			return err
		}
		before, err := readFormer(object)
		if err != nil {
			return err
		}
		all = add(before)
		text, err := writeFormer(all)
		if err != nil || text == object.Data[names.ConfigMapFormerAnchorsKey] {
			return err
		}
		object = object.DeepCopy()
		object.Data = map[string]string{names.ConfigMapFormerAnchorsKey: text}
		_, err = r.ConfigMaps.Update(ctx, object, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("remembering former trust anchors: %w", err)
	}
	return all, nil
}

func readFormer(object *corev1.ConfigMap) ([]Former, error) {
	text := object.Data[names.ConfigMapFormerAnchorsKey]
	if text == "" {
		return nil, nil
	}
	var list []remembered
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %w", object.Name, err)
	}
	var out []Former
	for _, r := range list {
		certs, err := parseCertificates([]byte(r.Certificate))
		if err != nil {
			return nil, fmt.Errorf("ConfigMap %s: %w", object.Name, err)
		}
		out = append(out, Former{certs[0], r.Until})
	}
	return out, nil
}

func writeFormer(list []Former) (string, error) {
	out := make([]remembered, len(list))
	for i, f := range list {
		out[i] = remembered{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Anchor.Raw})), f.Until.UTC().Truncate(time.Second)}
	}
	text, err := json.Marshal(out)
	return string(text), err
}

// combine is what two know together: each anchor once, with the later time, the one that was needed last at the end. At most
// maxFormer are kept.
func combine(a, b []Former) []Former {
	out := slices.Clone(a)
	for _, f := range b {
		i := slices.IndexFunc(out, func(o Former) bool { return o.Anchor.Equal(f.Anchor) })
		if i < 0 {
			out = append(out, f)
		} else if out[i].Until.Before(f.Until) {
			out[i].Until = f.Until
		}
	}
	slices.SortStableFunc(out, func(a, b Former) int { return a.Until.Compare(b.Until) })
	return out[max(0, len(out)-maxFormer):]
}

// exchangeEvery is how often replicas look at what others have remembered. A leaf lives for hours, and proxies ask every five
// minutes.
const exchangeEvery = 30 * time.Second

// Recall exchanges what is known of former anchors once. Before the first Load it lets an issuer be used whose anchor has
// left the bundle already.
func (c *Credentials) Recall(ctx context.Context, m Memory, lifetimes Lifetimes) error {
	all, err := m.Exchange(ctx, func(known []Former) []Former {
		c.reloading.Lock()
		defer c.reloading.Unlock()
		return c.exchangeLocked(known, lifetimes, time.Now())
	})
	if err != nil {
		return err
	}
	c.reloading.Lock()
	defer c.reloading.Unlock()
	// What changed meanwhile is told by changed, and exchanged next.
	c.shared = all
	return nil
}

// exchangeLocked combines what is remembered with what this replica knows. An anchor that was remembered and is not any more
// was taken out by an operator, after a theft say: it is forgotten here as well.
func (c *Credentials) exchangeLocked(known []Former, lifetimes Lifetimes, now time.Time) []Former {
	has := func(list []Former, anchor *x509.Certificate) bool {
		return slices.ContainsFunc(list, func(f Former) bool { return f.Anchor.Equal(anchor) })
	}
	var own []Former
	if p := c.former.Load(); p != nil {
		own = *p
	}
	own = slices.DeleteFunc(slices.Clone(own), func(f Former) bool { return has(c.shared, f.Anchor) && !has(known, f.Anchor) })
	if issuer := c.current.Load(); issuer != nil && issuer.beside {
		// Leaves are still issued under them. Once in a while is enough to say so.
		for _, anchor := range issuer.anchors(now) {
			recent := func(f Former) bool {
				return f.Anchor.Equal(anchor) && now.Sub(f.Until) < lifetimes.Issuance/4
			}
			if !slices.ContainsFunc(own, recent) {
				own = combine(own, []Former{{anchor, now}})
			}
		}
	}
	all := slices.DeleteFunc(combine(known, own), func(f Former) bool { return f.over(lifetimes, now) })
	c.former.Store(&all)
	return all
}

// over says that the last certificate that leads to the anchor has ended.
func (f Former) over(lifetimes Lifetimes, now time.Time) bool {
	return !now.Before(f.Until.Add(lifetimes.Issuance + 2*lifetimes.ClockSkew))
}

// Share exchanges what is known of former anchors again and again, until ctx is done. A failure leaves everything as it is.
func (c *Credentials) Share(ctx context.Context, m Memory, lifetimes Lifetimes) {
	tick := time.NewTicker(exchangeEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.changed:
		}
		err := c.Recall(ctx, m, lifetimes)
		if err != nil && !failing && !errors.Is(err, context.Canceled) {
			c.logger.Warn("replicas may give different trust anchors after a change", "error", err)
		}
		failing = err != nil
	}
}
