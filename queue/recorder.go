package queue

import (
	"context"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"log/slog"
	"usher/internal/keyring"
)

type RecorderConfig struct {
	Redis redis.UniversalClient
	DB    *pgxpool.Pool
	Ring  *keyring.Ring
	Log   *slog.Logger
}
type Recorder struct{}

func NewRecorder(cfg RecorderConfig) *Recorder    { return &Recorder{} }
func (r *Recorder) Run(ctx context.Context) error { return nil }
