package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"usher/internal/operator"
	"usher/internal/postgres"
)

// inPostgres is the record of a site with a database. Any number of processes may keep it.
type inPostgres struct{ db *pgxpool.Pool }

func (p inPostgres) id() string { return "postgres" }

func (p inPostgres) rooms(ctx context.Context) ([]string, error) {
	rows, err := p.db.Query(ctx, `SELECT room FROM rooms`)
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", err)
	}
	return names, nil
}

func (p inPostgres) settings(ctx context.Context, room string, s inSettings) error {
	epoch, err := uuid.Parse(s.Epoch)
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	return postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO rooms AS r (room, settings, revision, epoch, updated_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (room) DO UPDATE SET settings = EXCLUDED.settings, revision = EXCLUDED.revision,
				epoch = EXCLUDED.epoch, updated_at = EXCLUDED.updated_at
			WHERE (EXCLUDED.epoch, EXCLUDED.revision) > (r.epoch, r.revision)`,
			room, s.Settings, s.Revision, epoch, s.At)
		if err != nil {
			return fmt.Errorf("record settings: %w", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO room_epochs (room, epoch, commitment, ceiling, lineage, started_at) VALUES ($1, $2, $3, 0, $4, $5)
			ON CONFLICT (room, epoch) DO NOTHING`, room, epoch, s.Commitment, s.lineage, s.At)
		if err != nil {
			return fmt.Errorf("record epoch: %w", err)
		}
		return nil
	})
}

func (p inPostgres) raise(ctx context.Context, room, epoch, lineage string, n int64) (ceiling int64, ok bool, err error) {
	err = postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			UPDATE room_epochs SET ceiling = greatest(ceiling, $3) WHERE room = $1 AND epoch = $2 AND lineage = $4 RETURNING ceiling`,
			room, epoch, n, lineage).Scan(&ceiling)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reserve numbers: %w", err)
	}
	return ceiling, true, nil
}

func (p inPostgres) reserve(ctx context.Context, room, lineage string) (*lost, error) {
	var l lost
	var drawSize, lobbySize *int64
	var beacon *string
	var source *BeaconSource
	var round *int64
	var roundAt, fixedAt *time.Time
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			WITH reserved AS (
				UPDATE room_epochs e SET ceiling = e.ceiling + $2, lineage = $3 FROM rooms r
				WHERE r.room = $1 AND e.room = r.room AND e.epoch = r.epoch RETURNING e.*
			)
			SELECT r.settings, r.revision, r.epoch::text, e.commitment, e.ceiling, d.lobby_size, d.beacon, d.source,
				l.lobby_size, l.round, l.round_at, l.fixed_at, c.figures, c.taken_at
			FROM rooms r JOIN reserved e ON e.room = r.room
			LEFT JOIN room_draws d ON d.room = e.room AND d.epoch = e.epoch
			LEFT JOIN room_lobbies l ON l.room = e.room AND l.epoch = e.epoch
			LEFT JOIN room_checkpoints c ON c.room = e.room AND c.epoch = e.epoch
			WHERE r.room = $1`, room, headroom, lineage).
			Scan(&l.Settings, &l.Revision, &l.Epoch, &l.Commitment, &l.ceiling, &drawSize, &beacon, &source,
				&lobbySize, &round, &roundAt, &fixedAt, &l.figures, &l.takenAt)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was recorded: %w", err)
	}
	if drawSize != nil {
		l.drawn = &drawn{Size: *drawSize, Beacon: *beacon, Source: source}
	}
	if lobbySize != nil {
		l.sealed = sealedOf(*lobbySize, round, roundAt, fixedAt)
	}
	return &l, nil
}

func sealedOf(size int64, round *int64, roundAt, fixedAt *time.Time) *sealed {
	s := &sealed{Size: size}
	if round != nil {
		s.Round, s.RoundAt, s.FixedAt = uint64(*round), roundAt.UTC(), fixedAt.UTC()
	}
	return s
}

func (p inPostgres) seal(ctx context.Context, room, epoch string, size int64) (sealed, error) {
	return p.lobby(ctx, `
		INSERT INTO room_lobbies AS l (room, epoch, lobby_size) VALUES ($1, $2, $3)
		ON CONFLICT (room, epoch) DO UPDATE SET lobby_size = l.lobby_size RETURNING lobby_size, round, round_at, fixed_at`, room, epoch, size)
}

func (p inPostgres) choose(ctx context.Context, room, epoch string, s sealed) (sealed, error) {
	return p.lobby(ctx, `
		UPDATE room_lobbies SET round = coalesce(round, $3), round_at = coalesce(round_at, $4), fixed_at = coalesce(fixed_at, $5)
		WHERE room = $1 AND epoch = $2 RETURNING lobby_size, round, round_at, fixed_at`, room, epoch, int64(s.Round), s.RoundAt, s.FixedAt)
}

func (p inPostgres) lobby(ctx context.Context, sql string, args ...any) (sealed, error) {
	var size int64
	var round *int64
	var roundAt, fixedAt *time.Time
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, args...).Scan(&size, &round, &roundAt, &fixedAt)
	})
	if err != nil {
		return sealed{}, fmt.Errorf("record lobby: %w", err)
	}
	return *sealedOf(size, round, roundAt, fixedAt), nil
}

func (p inPostgres) draw(ctx context.Context, room, epoch string, d drawn) (drawn, error) {
	var kept drawn
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			INSERT INTO room_draws AS d (room, epoch, lobby_size, beacon, source, recorded_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (room, epoch) DO UPDATE SET lobby_size = d.lobby_size RETURNING lobby_size, beacon, source`,
			room, epoch, d.Size, d.Beacon, d.Source, d.at).Scan(&kept.Size, &kept.Beacon, &kept.Source)
	})
	if err != nil {
		return drawn{}, fmt.Errorf("record draw: %w", err)
	}
	return kept, nil
}

func (p inPostgres) changes(ctx context.Context, list []operator.Change) error {
	return postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		for _, c := range list {
			if err := operator.Record(ctx, tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p inPostgres) checkpoint(ctx context.Context, room, epoch string, at time.Time, figures map[string]string) error {
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO room_checkpoints AS c (room, epoch, taken_at, figures) VALUES ($1, $2, $3, $4)
			ON CONFLICT (room, epoch) DO UPDATE SET taken_at = EXCLUDED.taken_at, figures = EXCLUDED.figures
			WHERE c.taken_at < EXCLUDED.taken_at`, room, epoch, at, figures)
		return err
	})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

func (p inPostgres) claims(ctx context.Context, room, epoch string, chunks map[int64][]byte) error {
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		for chunk, bits := range chunks {
			_, err := tx.Exec(ctx, `
				INSERT INTO room_claims (room, epoch, chunk, bits) VALUES ($1, $2, $3, $4)
				ON CONFLICT (room, epoch, chunk) DO UPDATE SET bits = EXCLUDED.bits`, room, epoch, chunk, bits)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record claims: %w", err)
	}
	return nil
}

func (p inPostgres) eachClaims(ctx context.Context, room, epoch string, first int64, read func(chunk int64, bits []byte) error) error {
	rows, err := p.db.Query(ctx, `SELECT chunk, bits FROM room_claims WHERE room = $1 AND epoch = $2 AND (chunk + 1) * $3 > $4`,
		room, epoch, claimChunk, first)
	if err != nil {
		return fmt.Errorf("read recorded claims: %w", err)
	}
	var chunk int64
	var bits []byte
	_, err = pgx.ForEachRow(rows, []any{&chunk, &bits}, func() error { return read(chunk, bits) })
	return err
}

func (p inPostgres) entries(ctx context.Context, room, epoch string, list []entry) error {
	err := postgres.Retry(ctx, p.db, func(tx pgx.Tx) error {
		for _, e := range list {
			_, err := tx.Exec(ctx, `
				INSERT INTO room_entries AS r (room, epoch, kind, field, value) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (room, epoch, kind, field) DO UPDATE SET value = greatest(r.value, EXCLUDED.value)`, room, epoch, e.Kind, e.Field, e.Value)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record moves and invitations: %w", err)
	}
	return nil
}

func (p inPostgres) eachEntry(ctx context.Context, room, epoch string, read func(entry) error) error {
	rows, err := p.db.Query(ctx, `SELECT kind, field, value FROM room_entries WHERE room = $1 AND epoch = $2`, room, epoch)
	if err != nil {
		return fmt.Errorf("read recorded moves and invitations: %w", err)
	}
	var e entry
	_, err = pgx.ForEachRow(rows, []any{&e.Kind, &e.Field, &e.Value}, func() error { return read(e) })
	return err
}
