package queue

import (
	"context"
	"log/slog"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/keyring"
	"usher/internal/operator"
)

type Config struct {
	Redis redis.UniversalClient
	Ring  *keyring.Ring
	Log   *slog.Logger
	Tick  time.Duration
	// OriginStatus tells how a named origin does ("" is booking); nil: unknown.
	OriginStatus func(name string) OriginStatus
}
type Hall struct{}

func NewHall(cfg Config) (*Hall, error)                                   { return &Hall{}, nil }
func (h *Hall) Run(ctx context.Context) error                             { return nil }
func (h *Hall) Line(room string) (*Line, bool)                            { return nil, false }
func (h *Hall) Rooms() []Room                                             { return nil }
func (h *Hall) Protects(host, path string) (room, origin string, ok bool) { return "", "", false }
func (h *Hall) RoomOfEvent(slug string) (room string, known bool)         { return "", false }
func (h *Hall) Ready() error                                              { return nil }

// Configure makes a room or changes its settings.
func (h *Hall) Configure(ctx context.Context, room string, patch Patch, by Actor) (live Live, created bool, err error) {
	return
}

// Actor is who changes a room, for the audit log.
type Actor struct{ ID, Name, RequestID string }

type Line struct{}

func (l *Line) View() *View                             { return &View{} }
func (l *Line) Changed() <-chan struct{}                { return nil }
func (l *Line) Join(ctx context.Context) (Token, error) { return Token{}, nil }
func (l *Line) Seen(t Token)                            {}
func (l *Line) Place(ctx context.Context, t Token) (Place, time.Duration, error) {
	return Place{}, 0, nil
}
func (l *Line) Places(ctx context.Context, ts []Token) ([]Place, error) { return nil, nil }
func (l *Line) Leave(ctx context.Context, t Token) error                { return nil }
func (l *Line) Return(ctx context.Context, t Token) (Place, error)      { return Place{}, nil }
func (l *Line) Claim(ctx context.Context, t Token) (Session, error)     { return Session{}, nil }
func (l *Line) Release(ctx context.Context, session string) error       { return nil }
func (l *Line) Receipt(t Token) (string, error)                         { return "", nil }
func (l *Line) DrawRecord() (Draw, bool)                                { return Draw{}, false }

type View struct{}

func (v *View) Room() Room         { return Room{} }
func (v *View) Live() Live         { return Live{} }
func (v *View) Settings() Settings { return Settings{} }
func (v *View) Bypass() bool       { return false }

func RegisterOperate(api huma.API, h *Hall, auth *operator.Authenticator) {}

type RecorderConfig struct {
	Redis redis.UniversalClient
	DB    *pgxpool.Pool
	Ring  *keyring.Ring
	Log   *slog.Logger
}
type Recorder struct{}

func NewRecorder(cfg RecorderConfig) *Recorder    { return &Recorder{} }
func (r *Recorder) Run(ctx context.Context) error { return nil }
