// Package scheme registers the kinds of the mesh, in every version, with clients.
package scheme

import (
	"k8s.io/apimachinery/pkg/runtime"

	multiclusterv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/multicluster/v1alpha1"
	multiclusterv1alpha2 "github.com/linkerd-go/linkerd-go/api/crd/multicluster/v1alpha2"
	multiclusterv1alpha3 "github.com/linkerd-go/linkerd-go/api/crd/multicluster/v1alpha3"
	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	policyv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	policyv1beta2 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta2"
	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	serviceprofilev1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/serviceprofile/v1alpha1"
	serviceprofilev1alpha2 "github.com/linkerd-go/linkerd-go/api/crd/serviceprofile/v1alpha2"
	splitv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/split/v1alpha1"
	splitv1alpha2 "github.com/linkerd-go/linkerd-go/api/crd/split/v1alpha2"
	workloadv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/workload/v1alpha1"
	workloadv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
)

// AddToScheme registers all the kinds. A program that needs few of them can use the
// AddToScheme of their packages instead.
func AddToScheme(scheme *runtime.Scheme) error {
	builder := runtime.NewSchemeBuilder(
		serviceprofilev1alpha1.AddToScheme,
		serviceprofilev1alpha2.AddToScheme,
		policyv1alpha1.AddToScheme,
		policyv1beta1.AddToScheme,
		policyv1beta2.AddToScheme,
		policyv1beta3.AddToScheme,
		workloadv1alpha1.AddToScheme,
		workloadv1beta1.AddToScheme,
		multiclusterv1alpha1.AddToScheme,
		multiclusterv1alpha2.AddToScheme,
		multiclusterv1alpha3.AddToScheme,
		splitv1alpha1.AddToScheme,
		splitv1alpha2.AddToScheme,
	)
	return builder.AddToScheme(scheme)
}
