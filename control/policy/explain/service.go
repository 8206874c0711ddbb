package explain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
)

// Service serves the API. Its methods may be called from any goroutine.
type Service struct {
	explainpb.UnimplementedExplainServer
	index  *index.Index
	config *core.Config
}

var _ explainpb.ExplainServer = (*Service)(nil)

// New returns the service that answers from an index. config is that of the index.
func New(x *index.Index, config *core.Config) *Service { return &Service{index: x, config: config} }

// Register adds the service to a gRPC server.
func (s *Service) Register(registrar grpc.ServiceRegistrar) {
	explainpb.RegisterExplainServer(registrar, s)
}

// Inbound implements the API.
func (s *Service) Inbound(ctx context.Context, q *explainpb.InboundRequest) (*explainpb.Explanation, error) {
	key := index.WorkloadKey{ID: core.ID{Namespace: q.GetNamespace(), Name: q.GetPod()}}
	if key.External = q.GetExternalWorkload() != ""; key.External {
		key.Name = q.GetExternalWorkload()
	}
	if key.Namespace == "" || key.Name == "" {
		return nil, status.Error(codes.InvalidArgument, "namespace and workload must be set")
	}
	client, err := s.client(q.GetClient())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if n := q.GetPortNumber(); q.GetPortName() == "" && (n == 0 || n > math.MaxUint16) {
		return nil, status.Errorf(codes.InvalidArgument, "port %d is not a number from 1 to 65535", n)
	}
	var explanation *Explanation
	var failed error
	err = s.index.View(ctx, func(v index.View) {
		w := v.Workload(key)
		if w == nil {
			kind := "pod"
			if key.External {
				kind = "external workload"
			}
			failed = status.Errorf(codes.NotFound, "%s %s is not in the mesh", kind, key.ID)
			return
		}
		port := uint16(q.GetPortNumber())
		if name := q.GetPortName(); name != "" {
			var err error
			if port, err = PortNamed(w, name); err != nil {
				failed = status.Error(codes.NotFound, err.Error())
				return
			}
		}
		explanation = Inbound(s.config, v, w, port, client, request(q.GetRequest()))
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, answerError(ctx, err)
	}
	return encode(explanation), nil
}

// Outbound implements the API.
func (s *Service) Outbound(ctx context.Context, q *explainpb.OutboundRequest) (*explainpb.Explanation, error) {
	service := core.ID{Namespace: q.GetNamespace(), Name: q.GetService()}
	if service.Namespace == "" || service.Name == "" {
		return nil, status.Error(codes.InvalidArgument, "namespace and service must be set")
	}
	if q.GetPort() == 0 || q.GetPort() > math.MaxUint16 {
		return nil, status.Errorf(codes.InvalidArgument, "port %d is not a number from 1 to 65535", q.GetPort())
	}
	namespace := q.GetClientNamespace()
	if namespace == "" {
		namespace = service.Namespace
	}
	var explanation *Explanation
	err := s.index.View(ctx, func(v index.View) {
		explanation = Outbound(s.config, v, service, uint16(q.GetPort()), namespace, request(q.GetRequest()))
	})
	if err != nil {
		return nil, answerError(ctx, err)
	}
	return encode(explanation), nil
}

// answerError is the status of a question that was not answered.
func answerError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, index.ErrStopped):
		return status.Error(codes.Unavailable, "shutting down")
	}
	return err
}

func (s *Service) client(c *explainpb.Client) (Client, error) {
	var address netip.Addr
	if text := c.GetAddress(); text != "" {
		var err error
		if address, err = netip.ParseAddr(text); err != nil {
			return Client{}, fmt.Errorf("address of the client: %q is not an IP address", text)
		}
	}
	switch a := c.GetAuthentication().(type) {
	case *explainpb.Client_Unauthenticated:
		return Client{Proof: Plain, Address: address}, nil
	case *explainpb.Client_Anonymous:
		return Client{Proof: Anonymous, Address: address}, nil
	case *explainpb.Client_Identity:
		return NewClient(a.Identity, address)
	case *explainpb.Client_ServiceAccount:
		account := core.ID{Namespace: a.ServiceAccount.GetNamespace(), Name: a.ServiceAccount.GetName()}
		if account.Namespace == "" || account.Name == "" {
			return Client{}, errors.New("namespace and name of the client's ServiceAccount must be set")
		}
		return NewClient(s.config.ServiceAccountIdentity(account), address)
	}
	return Client{Address: address}, nil
}

func request(r *explainpb.Request) *Request {
	if r == nil {
		return nil
	}
	request := &Request{Method: r.GetMethod(), Path: r.GetPath(), Host: r.GetHost()}
	for _, h := range r.GetHeaders() {
		request.Headers = append(request.Headers, core.Header{Name: h.GetName(), Value: h.GetValue()})
	}
	return request
}

var verdicts = map[Verdict]explainpb.Verdict{
	Allowed: explainpb.Verdict_ALLOWED,
	Denied:  explainpb.Verdict_DENIED,
	Audited: explainpb.Verdict_AUDITED,
	NoRoute: explainpb.Verdict_NO_ROUTE,
	Depends: explainpb.Verdict_DEPENDS,
}

var marks = map[Mark]explainpb.Mark{
	Note:    explainpb.Mark_NOTE,
	Yes:     explainpb.Mark_YES,
	No:      explainpb.Mark_NO,
	Warning: explainpb.Mark_WARNING,
	Open:    explainpb.Mark_OPEN,
}

func encode(e *Explanation) *explainpb.Explanation {
	return &explainpb.Explanation{
		Verdict:   verdicts[e.Verdict],
		Summary:   e.Summary,
		DecidedBy: encodeResource(e.By),
		Answer:    &explainpb.Answer{HttpStatus: uint32(e.Status), GrpcCode: uint32(e.Code), Text: e.Answer},
		Steps:     encodeSteps(e.Steps),
		Port:      uint32(e.Port),
	}
}

func encodeResource(r Resource) *explainpb.Resource {
	if r == (Resource{}) {
		return nil
	}
	return &explainpb.Resource{Kind: r.Kind, Group: r.Group, Namespace: r.Namespace, Name: r.Name}
}

func encodeSteps(steps []Step) []*explainpb.Step {
	var encoded []*explainpb.Step
	for _, s := range steps {
		encoded = append(encoded, &explainpb.Step{Mark: marks[s.Mark], Resource: encodeResource(s.Subject), Text: s.Text, Steps: encodeSteps(s.Steps)})
	}
	return encoded
}
