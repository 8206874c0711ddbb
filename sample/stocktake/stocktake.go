// Package stocktake is the shop's batch work: it counts the catalog through a
// gRPC stream and is done. It stands for every Job of a user's: meshed like
// all else, it has to complete.
package stocktake

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// Count reads the catalog's stream of rounds rounds and returns how many
// prices it saw and their sum in cents.
func Count(ctx context.Context, c shoppb.CatalogClient, rounds uint32) (prices int, cents uint64, err error) {
	stream, err := c.Watch(ctx, &shoppb.WatchRequest{Rounds: rounds})
	if err != nil {
		return 0, 0, fmt.Errorf("watch the catalog: %w", err)
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return prices, cents, nil
		}
		if err != nil {
			return prices, cents, fmt.Errorf("price %d: %w", prices+1, err)
		}
		prices++
		cents += uint64(p.GetPrice())
	}
}
