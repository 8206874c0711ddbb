package component

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/linkerd-go/linkerd-go/devcluster/balancer"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
)

// resyncPeriod is how soon a failed status update is tried again.
const resyncPeriod = 30 * time.Second

// newLoadBalancerCommand gives Services of type LoadBalancer an address. Packets to it need no program:
// the range is routed to the node, where kube-proxy translates it.
func newLoadBalancerCommand() *cobra.Command {
	var kubeconfig, pool string
	command := &cobra.Command{
		Use:           config.LoadBalancer,
		Short:         "Give Services of type LoadBalancer an address from a range",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			prefix, err := netip.ParsePrefix(pool)
			if err != nil {
				return fmt.Errorf("address range: %w", err)
			}
			ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer cancel()
			return runLoadBalancer(ctx, kubeconfig, prefix)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&pool, "range", "", "addresses to hand out, for example 10.200.255.0/24")
	return command
}

func runLoadBalancer(ctx context.Context, kubeconfig string, pool netip.Prefix) error {
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(client, resyncPeriod)
	services := factory.Core().V1().Services()
	// One pending wake-up is enough, because every pass looks at all Services.
	wake := make(chan struct{}, 1)
	changed := func(any) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	if _, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    changed,
		UpdateFunc: func(_, now any) { changed(now) },
		DeleteFunc: changed,
	}); err != nil {
		return fmt.Errorf("watch services: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced) {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		var all []*corev1.Service
		for _, object := range services.Informer().GetStore().List() {
			all = append(all, object.(*corev1.Service))
		}
		for _, change := range balancer.Plan(all, pool) {
			if err := setBalancerStatus(ctx, client, change); err != nil && !errors.Is(err, context.Canceled) {
				klog.ErrorS(err, "cannot set the load balancer's address",
					"service", klog.KRef(change.Namespace, change.Name), "addresses", change.Ingress)
			}
		}
	}
}

func setBalancerStatus(ctx context.Context, client kubernetes.Interface, change balancer.Change) error {
	current, err := client.CoreV1().Services(change.Namespace).Get(ctx, change.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get service: %w", err)
	}
	if equality.Semantic.DeepEqual(current.Status.LoadBalancer.Ingress, change.Ingress) {
		return nil
	}
	current.Status.LoadBalancer.Ingress = change.Ingress
	if _, err := client.CoreV1().Services(change.Namespace).UpdateStatus(ctx, current, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update status: %w", err)
	}
	return nil
}
