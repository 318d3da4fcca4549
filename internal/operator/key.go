package operator

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// DB is what this package needs of a pool or a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// MaxKeys bounds the keys in force at once.
const MaxKeys = 1000

// Errors of keys.
var (
	ErrTooManyKeys = errors.New("too many keys")
	ErrNoKey       = errors.New("no such key")
)

// Key is an API key without its secret.
type Key struct {
	ID        string
	Name      string
	Role      Role
	Events    []string
	CreatedAt time.Time
}

func (k Key) principal() Principal {
	return Principal{ID: "key:" + k.ID, Name: k.Name, Role: k.Role, Events: k.Events}
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return lower32.EncodeToString(b)
}

// NewToken makes a key's text, usher_<id>_<secret>; the secret has 256 bits.
func NewToken() (id, token string) {
	id = random(5)
	return id, "usher_" + id + "_" + random(32)
}

// InsertKey records that token is k's. ErrTooManyKeys beyond MaxKeys.
func InsertKey(ctx context.Context, db DB, k Key, token string) error {
	tag, err := db.Exec(ctx, `
		INSERT INTO operator_keys (id, name, role, events, digest, created_at)
		SELECT $1, $2, $3, $4, $5, $6
		WHERE (SELECT count(*) FROM operator_keys) < $7`,
		k.ID, k.Name, k.Role, texts(k.Events), digest(token), k.CreatedAt, MaxKeys)
	if err != nil {
		return fmt.Errorf("insert key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrTooManyKeys
	}
	return nil
}

// PutKey records token as the only key named by k.ID, in place of an earlier one. It is
// for keys that come from configuration, such as the one of `usher dev`.
func PutKey(ctx context.Context, db DB, k Key, token string) error {
	_, err := db.Exec(ctx, `
		INSERT INTO operator_keys (id, name, role, events, digest, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, role = EXCLUDED.role,
			events = EXCLUDED.events, digest = EXCLUDED.digest`,
		k.ID, k.Name, k.Role, texts(k.Events), digest(token), k.CreatedAt)
	if err != nil {
		return fmt.Errorf("put key: %w", err)
	}
	return nil
}

// RevokeKey ends a key and returns what it was. ErrNoKey when none is in force by that id.
func RevokeKey(ctx context.Context, db DB, id string) (Key, error) {
	var k Key
	err := db.QueryRow(ctx, `
		DELETE FROM operator_keys WHERE id = $1
		RETURNING id, name, role, events, created_at`, id).
		Scan(&k.ID, &k.Name, &k.Role, &k.Events, &k.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, ErrNoKey
	}
	if err != nil {
		return Key{}, fmt.Errorf("revoke key: %w", err)
	}
	return k, nil
}

// Keys lists the keys in force, newest first.
func Keys(ctx context.Context, db DB) ([]Key, error) {
	rows, err := db.Query(ctx, `
		SELECT id, name, role, events, created_at FROM operator_keys
		ORDER BY created_at DESC, id LIMIT $1`, MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
		return k, row.Scan(&k.ID, &k.Name, &k.Role, &k.Events, &k.CreatedAt)
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}

// Publish makes the keys in Redis those of Postgres. It is repeatable, and what brings
// keys back to a Redis that lost them and removes those that a restored one revived.
//
// Redis is read first: a key that another process published meanwhile is then in Postgres
// too, and not taken for a revived one.
func Publish(ctx context.Context, db DB, rdb redis.UniversalClient) error {
	have, err := rdb.HGetAll(ctx, keysKey).Result()
	if err != nil {
		return fmt.Errorf("publish keys: %w", err)
	}
	rows, err := db.Query(ctx, `SELECT id, name, role, events, digest FROM operator_keys`)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	want := map[string]string{} // at most MaxKeys
	var k Key
	var d string
	_, err = pgx.ForEachRow(rows, []any{&k.ID, &k.Name, &k.Role, &k.Events, &d}, func() error {
		doc, err := json.Marshal(k.principal())
		want[d] = string(doc)
		return err
	})
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	var set []any
	var gone []string
	for d, doc := range want {
		if have[d] != doc {
			set = append(set, d, doc)
		}
	}
	for d, doc := range have {
		var p Principal
		if _, ok := want[d]; !ok && (json.Unmarshal([]byte(doc), &p) != nil || p.Via != viaConfig) {
			gone = append(gone, d)
		}
	}
	if len(set) == 0 && len(gone) == 0 {
		return nil
	}
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		if len(set) > 0 {
			pipe.HSet(ctx, keysKey, set...)
		}
		if len(gone) > 0 {
			pipe.HDel(ctx, keysKey, gone...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish keys: %w", err)
	}
	return nil
}

// viaConfig marks keys that Publish leaves alone.
const viaConfig = "config"

// AddKey makes key good for p in Redis alone, until Redis forgets it. Gateways that run
// without Postgres take their keys so; everything else goes through Postgres and Publish.
func AddKey(ctx context.Context, rdb redis.UniversalClient, key string, p Principal) error {
	if strings.TrimSpace(key) != key || key == "" || len(key) > maxCredential {
		return errors.New("an API key is 1 to 256 characters without spaces around")
	}
	p.Via = viaConfig
	doc, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	if err := rdb.HSet(ctx, keysKey, digest(key), doc).Err(); err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	return nil
}

// texts keeps NULL out of array columns.
func texts(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
