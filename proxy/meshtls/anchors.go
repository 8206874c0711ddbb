package meshtls

import (
	"bytes"
	"context"
	"os"
	"time"
)

// FollowAnchors keeps the trust anchors those of a file: it looks at it every
// interval until ctx is done. A file that is missing or holds no certificate
// changes nothing but for a warning, once per content, so that a rotation can
// only add trust or take away what is really gone.
//
// It polls: what Kubernetes mounts is replaced by renaming directories, which
// file notification misses or reports in parts, and a rotation takes hours.
func (s *Store) FollowAnchors(ctx context.Context, path string, interval time.Duration) {
	var last []byte
	missing := false
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		bundle, err := os.ReadFile(path)
		switch {
		case err != nil:
			if !missing {
				s.log.Warn("Failed to read trust anchors", "path", path, "error", err)
			}
			missing = true
		case !bytes.Equal(bundle, last):
			missing = false
			first := last == nil
			last = bundle
			if err := s.SetAnchors(bundle); err != nil {
				s.log.Warn("Keeping the old trust anchors", "path", path, "error", err)
			} else if !first {
				s.log.Info("Trust anchors changed", "path", path)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
