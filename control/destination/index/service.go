package index

import (
	"context"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

// serviceTopic answers what a Service is; federated Services are followed through it.
type serviceTopic struct {
	node    node
	index   *Index
	id      core.ID
	service *core.Service
	subs    map[*Subscription[core.Service]]struct{}
}

// Service returns a Service, or nil if there is none.
func (x *Index) Service(ctx context.Context, id core.ID) (*core.Service, error) {
	var service *core.Service
	if err := x.do(ctx, func() { service = x.tables.services[id] }); err != nil {
		return nil, err
	}
	return service, nil
}

// WatchService subscribes to a Service. While there is none the answer is nil.
func (x *Index) WatchService(ctx context.Context, id core.ID) (*Subscription[core.Service], error) {
	sub := newSubscription[core.Service](x.options.Capacity)
	err := x.do(ctx, func() {
		topic := x.services[id]
		if topic == nil {
			topic = &serviceTopic{index: x, id: id, subs: make(map[*Subscription[core.Service]]struct{})}
			x.services[id] = topic
			x.join(&topic.node, topic.refresh)
		}
		topic.subs[sub] = struct{}{}
		sub.publish(topic.service)
	})
	if err != nil {
		return nil, err
	}
	sub.close = func() {
		x.post(func() {
			topic := x.services[id]
			if topic == nil {
				return
			}
			delete(topic.subs, sub)
			if len(topic.subs) == 0 {
				x.answers.Drop(&topic.node)
				delete(x.services, id)
			}
		})
	}
	return sub, nil
}

func (t *serviceTopic) refresh(r *reader) {
	service := r.service(t.id)
	if service == t.service {
		return
	}
	t.service = service
	for sub := range t.subs {
		sub.publish(service)
	}
}
