package authz

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

const shop = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-http, namespace: shop, labels: {tier: front}}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web-admin, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 9000}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: other, namespace: shop}
spec: {podSelector: {matchLabels: {app: other}}, port: http}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: absent-port, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 1}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: by-name, namespace: shop}
spec: {server: {name: web-admin}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: by-label, namespace: shop}
spec: {server: {selector: {matchLabels: {tier: front}}}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: items, namespace: shop}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web-http}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: for-route, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: items}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: for-server, namespace: shop}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web-http}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: for-namespace, namespace: shop}
spec: {targetRef: {kind: Namespace, name: shop}, requiredAuthenticationRefs: []}
`

func TestAuthz(t *testing.T) {
	objects := append(commandtest.Objects(t, []byte(shop)), runtime.Object(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080}, {ContainerPort: 9000},
		}}}},
	}))
	for args, want := range map[string]string{
		"-n shop po/web-1": "" +
			"ROUTE  SERVER     AUTHORIZATION_POLICY  SERVER_AUTHORIZATION  \n" +
			"*      web-admin                        by-name               \n" +
			"*      web-admin  for-namespace                               \n" +
			"*      web-http                         by-label              \n" +
			"*      web-http   for-namespace                               \n" +
			"*      web-http   for-server                                  \n" +
			"items  web-http   for-route                                   \n",
		"-n shop pod web-1":     "same",
		"-n shop pods":          "same",
		"-n elsewhere pods":     "ROUTE  SERVER  AUTHORIZATION_POLICY  SERVER_AUTHORIZATION  \n",
		"-n elsewhere po/web-1": "there is no pod/web-1 in namespace elsewhere",
		"-n shop thing/web":     "cannot find Kubernetes canonical name from friendly name [thing]",
	} {
		r := commandtest.New(t, commandtest.Cluster(t, objects...))
		cmd := New(r.World, &command.Globals{Namespace: "linkerd"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(args))
		got := ""
		if err := cmd.Execute(); err != nil {
			got = err.Error()
		}
		got = r.Out.String() + r.Err.String() + got
		if want == "same" {
			if strings.Count(got, "\n") != 7 {
				t.Errorf("%s gives\n%s", args, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%s gives\n%s\nwant\n%s", args, got, want)
		}
	}
}
