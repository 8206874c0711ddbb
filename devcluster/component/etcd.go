package component

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/linkerd-go/linkerd-go/devcluster/config"
)

// etcdStartTimeout is how long etcd may take to open its database and elect itself.
const etcdStartTimeout = 2 * time.Minute

// newEtcdCommand is a single-member etcd for a cluster that nobody will miss: it never waits for the disk.
func newEtcdCommand() *cobra.Command {
	var dataDir, client, peer string
	command := &cobra.Command{
		Use:           config.Etcd,
		Short:         "Run a single-member etcd",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			return runEtcd(dataDir, client, peer)
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "", "directory of the database")
	command.Flags().StringVar(&client, "listen-client-url", "", "URL to serve clients on")
	command.Flags().StringVar(&peer, "listen-peer-url", "", "URL that the member announces to itself")
	return command
}

func runEtcd(dataDir, client, peer string) error {
	clientURL, err := url.Parse(client)
	if err != nil {
		return fmt.Errorf("client URL: %w", err)
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return fmt.Errorf("peer URL: %w", err)
	}
	cfg := embed.NewConfig()
	cfg.Name = "default"
	cfg.Dir = dataDir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*clientURL}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{"stderr"}
	// A power failure may cost the cluster its data. A process crash may not, because the kernel keeps what
	// was written.
	cfg.UnsafeNoFsync = true
	// The API server compacts; etcd need not.
	cfg.SnapshotCount = 100000
	cfg.QuotaBackendBytes = 4 << 30

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer etcd.Close()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-etcd.Server.ReadyNotify():
	case <-stop:
		return nil
	case <-time.After(etcdStartTimeout):
		return fmt.Errorf("etcd is not ready after %s", etcdStartTimeout)
	}
	select {
	case err := <-etcd.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("etcd stopped by itself")
	case <-stop:
		return nil
	}
}
