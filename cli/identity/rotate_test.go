package identity

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

// TestRotate asks for rotations, and looks at what the control plane is told.
func TestRotate(t *testing.T) {
	const own = "identity:\n  rotation:\n    enabled: true\n  issuer:\n    scheme: linkerd.io/tls\n"
	month := 30 * 24 * time.Hour
	at := func(phase string, anchorDue time.Time) *rotation.Status {
		return &rotation.Status{
			Phase: phase, Next: "the next anchor reaches every proxy", Until: commandtest.Start.Add(time.Hour), Reported: commandtest.Start,
			Issuer: &rotation.Certificate{Name: "identity.linkerd.cluster.local", Fingerprint: "01", NotAfter: commandtest.Start.Add(month), Due: commandtest.Start.Add(month / 2)},
			Anchor: &rotation.Certificate{Name: "root.linkerd.cluster.local", Fingerprint: "02", NotAfter: commandtest.Start.Add(12 * month), Due: anchorDue},
		}
	}
	later, now := commandtest.Start.Add(month), commandtest.Start.Format(time.RFC3339)
	for _, c := range []struct {
		name   string
		values string
		status *rotation.Status
		args   []string
		// asked are the requests in the end, out is a part of what is printed.
		asked map[string]string
		out   string
		fails bool
	}{
		{name: "an issuer", values: own, asked: map[string]string{rotation.KeyRequestIssuer: now}, out: "Asked for a new issuer."},
		{name: "an anchor", values: own, args: []string{"--anchor"}, asked: map[string]string{rotation.KeyRequestAnchor: now}, out: "Asked for a new trust anchor."},
		{name: "none after all", values: own, status: at("distributing", later), args: []string{"--cancel"}, asked: map[string]string{rotation.KeyRequestCancel: now}, out: "Asked for no new trust anchor."},
		{name: "none after all, at once", values: own, args: []string{"--cancel"}, asked: map[string]string{rotation.KeyRequestCancel: now}, out: "Asked for no new trust anchor."},
		{name: "too late", values: own, status: at("renewing", later), args: []string{"--cancel"}, out: "The issuer is of the new trust anchor already", fails: true},
		{name: "not to be taken back", values: own, status: at("distributing", commandtest.Start), args: []string{"--cancel"}, out: "The trust anchor is due", fails: true},
		{name: "status", values: own, status: at("distributing", later), args: []string{"--status"}, out: "phase         distributing\nnext          the next anchor reaches every proxy, on 2026-03-14T16:09:26Z\n"},
		{name: "status and cancel", values: own, args: []string{"--status", "--cancel"}, out: "none of the others can be", fails: true},
		{name: "somebody else's", values: "identity:\n  issuer:\n    scheme: kubernetes.io/tls\n", args: []string{"--anchor"}, out: "were not made by the control plane", fails: true},
		{name: "somebody else's anchor", values: own + "  externalCA: true\n", out: "were not made by the control plane", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: rotation.ConfigMap}, Data: map[string]string{}}
			if c.status != nil {
				text, err := json.Marshal(c.status)
				if err != nil {
					t.Fatal(err)
				}
				state.Data[rotation.KeyStatus] = string(text)
			}
			config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-config"}, Data: map[string]string{"values": c.values}}
			fake := commandtest.Cluster(t, state, config)
			r := commandtest.New(t, fake)
			cmd := New(r.World, &command.Globals{Namespace: "linkerd"})
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(append([]string{"rotate"}, c.args...))
			err := cmd.Execute()
			if (err != nil) != c.fails {
				t.Errorf("error is %v", err)
			}
			out := r.Out.String()
			if err != nil {
				out += err.Error()
			}
			if !strings.Contains(out, c.out) {
				t.Errorf("no %q in\n%s", c.out, out)
			}
			after, err := fake.Kube.CoreV1().ConfigMaps("linkerd").Get(t.Context(), rotation.ConfigMap, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{rotation.KeyRequestIssuer, rotation.KeyRequestAnchor, rotation.KeyRequestCancel} {
				if after.Data[key] != c.asked[key] {
					t.Errorf("%s is %q, want %q", key, after.Data[key], c.asked[key])
				}
			}
		})
	}
}
