package index

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

// ProfileQuery asks for the profile of a destination: an address, or a name.
type ProfileQuery struct {
	// Addr is the IP address; if it is not valid, Name counts.
	Addr netip.Addr
	Name core.Name
	Port uint16
	// Namespace is that of the client, whose ServiceProfiles come first; empty if unknown.
	Namespace string
}

// NotFoundError says that a destination does not exist.
type NotFoundError struct {
	// Service says that it is the Service that is missing, and not an instance of it.
	Service bool
	message string
}

func (e *NotFoundError) Error() string { return e.message }

// ConflictError says that an address leads to several objects.
type ConflictError struct{ message string }

func (e *ConflictError) Error() string { return e.message }

// profileTopic answers one ProfileQuery.
type profileTopic struct {
	node    node
	index   *Index
	query   ProfileQuery
	profile *core.Profile
	err     error
	// kept says that there is no such profile any more: who has it keeps it, but nobody is given it.
	kept bool
	subs map[*Subscription[core.Profile]]struct{}
}

// Profile subscribes to the profile of a destination. If there is none the error says why: NotFoundError, ConflictError or
// core.ErrExternalName. Once there is a profile the stream lives on through all of these: a Service that is deleted and
// created again must not end the connections to it.
func (x *Index) Profile(ctx context.Context, query ProfileQuery) (*Subscription[core.Profile], error) {
	sub := newSubscription[core.Profile](x.options.Capacity)
	var failed error
	var topic *profileTopic
	err := x.do(ctx, func() {
		topic = x.profiles[query]
		if topic != nil {
			// The caller may have seen a change, and must not be given an older answer.
			x.answers.Settle(&topic.node)
		}
		if topic == nil || topic.kept {
			topic = &profileTopic{index: x, query: query, subs: make(map[*Subscription[core.Profile]]struct{})}
			x.join(&topic.node, topic.refresh)
			if topic.profile == nil {
				x.answers.Drop(&topic.node)
				failed = topic.err
				return
			}
			x.profiles[query] = topic
		}
		topic.subs[sub] = struct{}{}
		x.options.Metrics.profileSubscribers(topic.profile, 1)
		sub.publish(topic.profile)
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	sub.close = func() {
		x.post(func() {
			if _, in := topic.subs[sub]; in {
				delete(topic.subs, sub)
				x.options.Metrics.profileSubscribers(topic.profile, -1)
			}
			if len(topic.subs) == 0 {
				x.answers.Drop(&topic.node)
				if x.profiles[query] == topic {
					delete(x.profiles, query)
				}
			}
		})
	}
	return sub, nil
}

func (t *profileTopic) refresh(r *reader) {
	profile, err := t.compute(r)
	if err != nil {
		if t.profile != nil {
			t.index.options.Logger.Warn("profile kept", "query", t.query, "error", err)
			t.kept = true
		}
		t.err = err
		return
	}
	t.kept = false
	if t.profile != nil {
		if profile.Equal(t.profile) {
			return
		}
		if t.profile.Name != "" && profile.Endpoint != nil && len(profile.Endpoint.Labels) == 0 {
			// The address was a Service's and is nobody's now. It may be on its way back; nothing is won by telling.
			t.kept = true
			return
		}
	}
	before := t.profile
	t.profile = profile
	if before != nil {
		t.index.options.Metrics.profileSubscribers(before, -len(t.subs))
		t.index.options.Metrics.profileSubscribers(profile, len(t.subs))
	}
	t.index.options.Metrics.profileUpdated(profile)
	for sub := range t.subs {
		sub.publish(profile)
	}
}

// compute finds what the query leads to. Source: proxy API chapter, sections 4.1 and 4.5.
func (t *profileTopic) compute(r *reader) (*core.Profile, error) {
	config := &t.index.options.Config
	if !t.query.Addr.IsValid() {
		return t.byName(r, config)
	}
	services := r.servicesAt(t.query.Addr)
	switch len(services) {
	case 0:
		return t.byAddr(r, config)
	case 1:
		return t.ofService(r, config, services[0])
	}
	return nil, &ConflictError{fmt.Sprintf("found %d services with conflicting cluster IP %s", len(services), t.query.Addr)}
}

func (t *profileTopic) byName(r *reader, config *core.Config) (*core.Profile, error) {
	name := t.query.Name
	if name.Instance == "" {
		return t.ofService(r, config, name.Service)
	}
	if id, ok := core.InstancePod(r.slices(name.Service), name.Instance); ok {
		if pod := r.Pod(id); pod != nil && len(pod.IPs) > 0 {
			return config.PodProfile(r, pod, netip.AddrPortFrom(pod.IPs[0], t.query.Port)), nil
		}
	}
	return nil, &NotFoundError{message: fmt.Sprintf("no pod found in EndpointSlices of Service %s for hostname %s", name.Service, name.Instance)}
}

// ofService returns the profile of a Service, from the ServiceProfile in the client's namespace or else that in the
// Service's.
func (t *profileTopic) ofService(r *reader, config *core.Config, id core.ID) (*core.Profile, error) {
	service := r.service(id)
	if service == nil {
		return nil, &NotFoundError{Service: true, message: fmt.Sprintf("service %q not found", id.Name)}
	}
	name := config.ServiceProfileName(id)
	var custom *core.ServiceProfile
	if t.query.Namespace != "" {
		custom = r.profile(core.ID{Namespace: t.query.Namespace, Name: name})
	}
	if custom == nil {
		custom = r.profile(core.ID{Namespace: id.Namespace, Name: name})
	}
	return config.ServiceProfileOf(service, t.query.Port, custom)
}

func (t *profileTopic) byAddr(r *reader, config *core.Config) (*core.Profile, error) {
	addr := netip.AddrPortFrom(t.query.Addr, t.query.Port)
	switch pods := r.podsAt(t.query.Addr); len(pods) {
	case 0:
	case 1:
		return config.PodProfile(r, pods[0], addr), nil
	default:
		return nil, &ConflictError{fmt.Sprintf("found %d pods with a conflicting pod network IP %s", len(pods), t.query.Addr)}
	}
	switch pods := r.podsAtHostPort(addr); len(pods) {
	case 0:
	case 1:
		return config.PodProfile(r, pods[0], addr), nil
	default:
		return nil, &ConflictError{fmt.Sprintf("found %d pods with a conflicting host network endpoint %s", len(pods), addr)}
	}
	switch workloads := r.externalsAt(addr); len(workloads) {
	case 0:
	case 1:
		return config.ExternalProfile(r, workloads[0], addr), nil
	default:
		return nil, &ConflictError{fmt.Sprintf("found %d external workloads with a conflicting endpoint %s", len(workloads), addr)}
	}
	return config.BareProfile(addr), nil
}
