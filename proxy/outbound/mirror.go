package outbound

import (
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
)

// Mirrors get a copy of requests; what they answer is dropped. A copy is sent
// once all of the request is there, which is when its response begins or, at
// the latest, when it ends: the request itself waits for nothing.

const (
	// mirrorBytes is how long the body of a request may be that is copied.
	// Longer ones are not mirrored: keeping them would cost the memory of the
	// application's pod.
	mirrorBytes = 64 << 10
	// mirrorTimeout ends copies whose rule has no timeout.
	mirrorTimeout = 15 * time.Second
	// maxMirrors bounds the copies in flight. More are dropped, so that a
	// mirror that hangs takes a bounded part of the proxy.
	maxMirrors = 256
)

// ruleMirror is a mirror as one rule or backend of it uses it.
type ruleMirror struct {
	*model.Mirror
	backend *backend
}

// copied is a request on its way to a mirror.
type copied struct {
	to   *backend
	head exchange.RequestHead
}

// copy draws which mirrors get the request, and keeps its head for them as the
// rule's filters made it.
func (r *request) copy(to *ruleBackend, head *exchange.RequestHead) {
	r.copies = nil // of a router that was replaced meanwhile
	if head.Upgrade {
		return // what follows is not a body that ends
	}
	for _, list := range [][]*ruleMirror{r.rule.mirrored, to.mirrored} {
		for _, m := range list {
			if m.backend.balancer == nil || !route.Share(m.Numerator, m.Denominator, nil) {
				continue
			}
			c := &copied{to: m.backend}
			c.head.CopyFrom(head)
			r.copies = append(r.copies, c)
		}
	}
}

// mirror sends the copies if all of the request is there, and otherwise
// nothing. The request may end meanwhile: copies share nothing with it but the
// bytes of its body, which nobody changes any more.
func (r *request) mirror() {
	if len(r.copies) == 0 || !r.replay.Complete() {
		return
	}
	timeout := r.timeouts.Request
	if timeout <= 0 {
		timeout = mirrorTimeout
	}
	p := r.p
	for _, c := range r.copies {
		if p.mirrors.Add(1) > maxMirrors {
			p.mirrors.Add(-1)
			continue
		}
		body := r.replay.Attempt()
		p.ending.Go(func() {
			defer p.mirrors.Add(-1)
			c.send(p, body, timeout)
		})
	}
	r.copies = nil
}

// send sends the copy and reads the response to its end, so that the connection
// can be used again.
func (c *copied) send(p *Proxy, body exchange.Body, timeout time.Duration) {
	var canceler exchange.Canceler
	timer := p.cfg.Clock.AfterFunc(timeout, func() {
		canceler.Cancel(&deadline.Error{Kind: deadline.Request, Limit: timeout})
	})
	defer timer.Stop()
	pick, err := c.to.balancer.Pick(&canceler)
	if err != nil {
		p.cfg.Log.Debug("Request not mirrored", "backend", c.to.String(), "error", err)
		return
	}
	defer pick.Release()
	resp, err := pick.Service().roundTrip(&canceler, &c.head, body)
	if err != nil {
		p.cfg.Log.Debug("Request not mirrored", "backend", c.to.String(), "error", err)
		return
	}
	defer resp.Close()
	pick.Head(&resp.Head)
	pick.Complete()
	if resp.Upgraded != nil {
		return
	}
	for !resp.Body.Ended() {
		if f, err := resp.Body.Next(); err != nil || f.End {
			return
		}
	}
}
