package inbound

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// TestRequestsOfForgottenProfiles: a request may have found a profile just before it
// is forgotten. It counts nothing then, and above all keeps no series alive.
func TestRequestsOfForgottenProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := metric.NewRegistry(metric.Options{Retain: time.Minute})
		set := series.New(reg)
		value := watch.New(&model.Profile{Name: "web.ns.svc.cluster.local", Routes: make([]model.ProfileRoute, 2)})
		released := false
		e := &profileEntry{
			dst: "web.ns.svc.cluster.local:80", found: make(chan struct{}), cancel: func() {},
			lease: lookup.NewLease[lookup.Profiles](value, func() { released = true }),
		}
		close(e.found)
		e.current(set).def.http.Request()
		e.end()
		if s := e.current(set); s != nil {
			t.Error("a forgotten profile has handles")
		}
		if !released {
			t.Error("the lookup goes on")
		}
		time.Sleep(10 * time.Minute)
		if text := string(reg.AppendText(nil)); strings.Contains(text, "web.ns") {
			t.Errorf("series are left:\n%s", text)
		}
	})
}
