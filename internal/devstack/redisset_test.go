package devstack

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestRedisSets(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(context.Context, string) (*RedisSet, error){"sentinel": StartSentinel, "cluster": StartCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
			defer cancel()
			set, err := start(ctx, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer set.Kill()
			before, err := set.Owner(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			client := before.client()
			defer client.Close()
			err = until(ctx, func() error {
				written := client.Pipeline()
				written.Set(ctx, "k", "v", 0)
				copies := written.Do(ctx, "WAIT", 1, 5000)
				if _, err := written.Exec(ctx); err != nil || copies.Val() == int64(0) {
					return fmt.Errorf("written to %v replicas: %w", copies.Val(), err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := set.FailAfter(ctx, 2*time.Second); err != nil {
				t.Fatal(err)
			}
			before.Kill()
			err = until(ctx, func() error {
				after, err := set.Owner(ctx, "k")
				if err == nil && after == before {
					err = errors.New("nobody took over")
				}
				if err == nil {
					err = after.do(ctx, "SET", "k", "w")
				}
				return err
			})
			if err != nil {
				t.Fatalf("nobody took over: %v", err)
			}
		})
	}
}
