package operator

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/argon2"
)

// Bounds of a password in bytes.
const (
	MinPassword = 8
	MaxPassword = 256
)

// Errors of accounts.
var (
	ErrEmailTaken  = errors.New("another account has this address")
	ErrCredentials = errors.New("no account with this address and password")
)

// Account is a person who signs in.
type Account struct {
	ID        uuid.UUID
	Email     string
	Name      string
	Role      Role
	Events    []string
	CreatedAt time.Time
}

func (a Account) principal() Principal {
	return Principal{ID: a.ID.String(), Name: a.Name, Role: a.Role, Events: a.Events}
}

// CreateAccount records a new account. ErrEmailTaken when the address has one.
// It hashes the password first, which takes tens of milliseconds.
func CreateAccount(ctx context.Context, db DB, a Account, password string) error {
	hash, err := hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return insertAccount(ctx, db, a, hash, `ON CONFLICT (lower(email)) DO NOTHING`)
}

// PutAccount records an account, or changes the one of that address to be like it.
func PutAccount(ctx context.Context, db DB, a Account, password string) error {
	hash, err := hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return insertAccount(ctx, db, a, hash, `ON CONFLICT (lower(email)) DO UPDATE SET
		name = EXCLUDED.name, role = EXCLUDED.role, events = EXCLUDED.events, password = EXCLUDED.password`)
}

func insertAccount(ctx context.Context, db DB, a Account, hash, onConflict string) error {
	tag, err := db.Exec(ctx, `
		INSERT INTO operators (id, email, name, role, events, password, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) `+onConflict,
		a.ID, a.Email, a.Name, a.Role, texts(a.Events), hash, a.CreatedAt)
	if err != nil {
		return fmt.Errorf("record account: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrEmailTaken
	}
	return nil
}

// Accounts lists accounts by address, at most 1000 after the address given.
func Accounts(ctx context.Context, db DB, after string, limit int) ([]Account, error) {
	rows, err := db.Query(ctx, `
		SELECT id, email, name, role, events, created_at FROM operators
		WHERE lower(email) > lower($1) ORDER BY lower(email) LIMIT $2`, after, min(limit, 1000))
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, scanAccount)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

func scanAccount(row pgx.CollectableRow) (a Account, err error) {
	return a, row.Scan(&a.ID, &a.Email, &a.Name, &a.Role, &a.Events, &a.CreatedAt)
}

// checkPassword returns the account of email when password is its own, else
// ErrCredentials, after the same work whether the address is known or not.
func checkPassword(ctx context.Context, db DB, email, password string) (Account, error) {
	var a Account
	hash := nobody
	err := db.QueryRow(ctx, `
		SELECT id, email, name, role, events, created_at, password FROM operators
		WHERE lower(email) = lower($1)`, email).
		Scan(&a.ID, &a.Email, &a.Name, &a.Role, &a.Events, &a.CreatedAt, &hash)
	known := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Account{}, fmt.Errorf("find account: %w", err)
	}
	same, err := samePassword(ctx, hash, password)
	if err != nil {
		return Account{}, err
	}
	if !known || !same {
		return Account{}, ErrCredentials
	}
	return a, nil
}

// The cost of argon2id (OWASP's second choice): 19 MiB, two passes, one lane.
const (
	argonMemory = 19 * 1024 // KiB
	argonTime   = 2
	saltLen     = 16
	sumLen      = 32
)

// hashing lets one password be worked on at a time: a flood of sign-ins takes one
// processor and 19 MiB, no more.
var hashing = make(chan struct{}, 1)

func derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-hashing }()
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, sumLen), nil
}

const phcPrefix = "$argon2id$v=19$m=19456,t=2,p=1$"

// nobody is the hash that unknown addresses are checked against; no password has it.
var nobody = phc(make([]byte, saltLen), make([]byte, sumLen))

func phc(salt, sum []byte) string {
	return phcPrefix + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(sum)
}

func hashPassword(ctx context.Context, password string) (string, error) {
	if len(password) < MinPassword || len(password) > MaxPassword {
		return "", fmt.Errorf("a password has %d to %d bytes", MinPassword, MaxPassword)
	}
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	sum, err := derive(ctx, password, salt)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return phc(salt, sum), nil
}

func samePassword(ctx context.Context, hash, password string) (bool, error) {
	rest, ok := strings.CutPrefix(hash, phcPrefix)
	saltText, sumText, cut := strings.Cut(rest, "$")
	salt, saltErr := base64.RawStdEncoding.DecodeString(saltText)
	want, sumErr := base64.RawStdEncoding.DecodeString(sumText)
	if !ok || !cut || saltErr != nil || sumErr != nil {
		return false, errors.New("stored password hash is not one of ours")
	}
	if len(password) > MaxPassword {
		return false, nil
	}
	got, err := derive(ctx, password, salt)
	if err != nil {
		return false, fmt.Errorf("check password: %w", err)
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
