// Package component holds the programs that a cluster consists of, so that one binary can act as any of
// them: etcd, the Kubernetes control plane, the kubelet, kube-proxy and kubectl.
//
// A component takes over the whole process: it reads os.Args, parses its own flags, installs signal
// handlers and ends the process. Run is therefore called once, from main, before anything else.
package component

import (
	"context"
	"os"
	"slices"
	"strings"

	_ "time/tzdata" // CronJobs name time zones, and the machine may have no zone files.

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's ways to authenticate against other clusters
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	compversion "k8s.io/component-base/version"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
)

// programs maps a component's name to the command that is it.
var programs = map[string]func() *cobra.Command{
	config.APIServer:         apiserver.NewAPIServerCommand,
	config.ControllerManager: controllermanager.NewControllerManagerCommand,
	config.Scheduler:         func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	config.Kubelet:           func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	config.KubeProxy:         proxy.NewProxyCommand,
	config.Etcd:              newEtcdCommand,
	config.LoadBalancer:      newLoadBalancerCommand,
}

// Is reports whether name is a component that Run knows.
func Is(name string) bool {
	return name == config.Kubectl || programs[name] != nil
}

// Version is the version that the components report. A binary that was built without it says so.
func Version() (version string, stamped bool) {
	version = compversion.Get().GitVersion
	return version, !strings.HasPrefix(version, "v0.0.0")
}

// Run becomes the component name with the given flags and returns the exit code of the process.
func Run(name string, args []string) int {
	// The components look at os.Args themselves, kubectl even before its flags are parsed.
	os.Args = slices.Concat([]string{name}, args)
	if name == config.Kubectl {
		return runKubectl()
	}
	return cli.Run(programs[name]())
}

// runKubectl acts like the kubectl program. CheckErr prints and ends the process itself.
func runKubectl() int {
	// Plugins and the preferences file are handled while the command is built, so the log level has to be
	// known before; an unknown level is reported later by the flag parser.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err)
	}
	return 0
}
