package outbound

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// requestSide hears of an attempt's request body.
type requestSide attempt

func (s *requestSide) Frame(f exchange.Frame) {
	n := uint64(len(f.Data))
	s.received += n
	if n > 0 && s.r.route != nil && s.r.retries == 0 {
		s.r.route.Frames.Observe(n)
	}
	if s.limits != nil {
		s.limits.activity()
	}
	s.count()
}

// count counts the request, with the first frame of its body.
func (s *requestSide) count() {
	if !s.counted {
		s.counted = true
		s.pick.Service().metrics.Request()
	}
}

func (s *requestSide) Over(err error) {
	s.count()
	s.sent.Store(int64(max(s.r.p.cfg.Clock.Now().Sub(s.started), 1)))
	if s.limits != nil && err == nil {
		s.limits.sent()
	}
}

// responseSide hears of an attempt's response body.
type responseSide attempt

func (s *responseSide) Frame(f exchange.Frame) {
	if n := len(f.Data); n > 0 {
		s.bytes += uint64(n)
		if s.backend != nil {
			s.backend.metrics.Frames.Observe(uint64(n))
		}
	}
	if f.Trailers != nil {
		s.trailers = f.Trailers
	}
	if s.limits != nil {
		s.limits.activity()
	}
	// Reading the clock is a good part of what counting costs.
	if !s.timed || f.End {
		s.at = s.r.p.cfg.Clock.Now()
	}
	s.ended = f.End
	s.latency(s.at)
}

// latency is recorded, and the endpoint's load completed, with the first frame
// or the end.
func (s *responseSide) latency(now time.Time) {
	if s.timed || !s.picked {
		return
	}
	s.timed = true
	s.pick.Complete()
	s.pick.Service().metrics.Latency(s.status, now.Sub(s.started))
	if s.r.profile != nil && !s.retried {
		s.r.profile.http.Latency(s.status, now.Sub(s.r.started))
	}
}

// Over counts the end of the attempt, and of the request if there will not be
// another.
func (s *responseSide) Over(err error) {
	s.over = true
	r := s.r
	now := s.at
	if !s.ended {
		now = r.p.cfg.Clock.Now()
	}
	if err == nil {
		s.latency(now)
	}
	class := classify.Class{}
	if s.status == 0 && err != nil {
		class = classify.Failed(err)
	} else {
		class = s.class.End(s.trailers, err)
	}
	c := series.Class{Status: s.status, Failure: class.Failure, GRPC: class.GRPC, Error: class.Error}
	s.why, s.code = err, class.GRPC
	if s.picked {
		s.pick.Service().metrics.Response(c)
		s.pick.Outcome(class.Outcome)
	}
	if s.tap != nil {
		s.tap.End(tap.End{At: now, Bytes: s.bytes, GRPC: tap.GRPC(class.GRPC), Reset: tap.Reset(err), Trailers: s.trailers})
	}
	if r.profile != nil {
		r.profile.actual.Response(c)
		if !s.retried {
			r.profile.http.Response(c)
		}
		return
	}
	res := result(c, err)
	if s.backend != nil {
		if sent := time.Duration(s.sent.Load()); sent != 0 {
			s.backend.metrics.Duration.ObserveDuration(now.Sub(s.started) - sent)
		}
		s.backend.metrics.End(res)
	}
	if r.route != nil && !s.retried {
		r.route.Duration.ObserveDuration(now.Sub(r.started))
		r.route.End(res)
	}
}

// result is how an exchange ended for the registry's families. What a filter
// answered is known by its status and no error.
func result(c series.Class, err error) series.Result {
	if err == nil {
		return series.Result{Status: c.Status, GRPC: c.GRPC}
	}
	if v := refusal.As(err); v != nil && v.Cause == nil && v.Label == "" {
		return series.Result{Status: v.Status}
	}
	return series.Result{Status: c.Status, GRPC: c.GRPC, Error: errorLabel(err)}
}

// tapped describes an attempt to observers.
func (a *attempt) tapped(e *endpoint, head *exchange.RequestHead) tap.Request {
	r := a.r
	t := tap.Request{
		Outbound: true, Destination: e.model.Addr, Head: head, At: a.started,
		SourceLabels: model.Labels{{Key: "tls", Value: string(series.Loopback)}},
	}
	if r.h.conn != nil {
		t.Source = r.h.conn.client
	}
	labels := map[string]string{"tls": string(e.why)}
	if id := e.model.TLS.ID; !id.IsZero() {
		labels["tls"], labels["server_id"] = "true", id.String()
	}
	for _, l := range e.model.Labels {
		labels[l.Key] = l.Value
	}
	t.DestinationLabels = model.MakeLabels(labels)
	if r.profile != nil && r.profile.ProfileRoute != nil {
		t.RouteLabels = r.profile.Labels
	}
	return t
}

// classes are the route's response classes.
func (pr *profileRoute) classes() []model.ResponseClass {
	if pr == nil || pr.ProfileRoute == nil {
		return nil
	}
	return pr.Classes
}

func errorLabels(label string) string { return metric.Labels("error", label) }

// log is the request's logger; it is made only where something is logged.
func (r *request) log() *slog.Logger {
	if r.h.conn != nil {
		return r.h.conn.log()
	}
	return logs.For(r.p.cfg.Log, "linkerd_app_outbound", fmt.Sprintf("proxy{addr=%s}", r.t))
}
