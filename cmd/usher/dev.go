package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"usher/booking"
	"usher/internal/devstack"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/queue"
)

type devCommand struct {
	Listen      string `default:":8080" help:"Where the public comes in."`
	AdminListen string `default:"127.0.0.1:9090" help:"Metrics, health, readiness and profiles."`
	DataDir     string `default:".usher" help:"Where everything is kept; removing it begins anew."`
	Demo        bool   `default:"true" negatable:"" help:"Load the demo events."`
	OperatorKey string `secret:"all" placeholder:"KEY" help:"An API key to accept, role admin; default a random one, printed."`
	MailFrom    string `default:"Usher <tickets@localhost>" help:"The sender of mail, which is written into the data folder."`
	LogFormat   string `enum:"json,text" default:"text" help:"How log lines are written: json or text."`
	LogLevel    string `enum:"debug,info,warn,error" default:"info" help:"The least level that is written."`
	edge
}

// startTime is how long a start may take, or a child's new start.
const startTime = 2 * time.Minute

func (c devCommand) Run(ctx context.Context, p process, command *kong.Context) (err error) {
	letHeapGrow() // the gateway is most of what runs here
	log, err := logging{LogFormat: c.LogFormat, LogLevel: c.LogLevel}.logger(p)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	folder, err := devstack.Lock(c.DataDir)
	if err != nil {
		return err
	}
	defer folder.Unlock()
	public, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer public.Close()
	private, err := listen(ctx, c.AdminListen)
	if err != nil {
		return err
	}
	defer private.Close()
	inner, err := listen(ctx, "127.0.0.1:0") // the box office, behind the gateway
	if err != nil {
		return err
	}
	defer inner.Close()
	log.Info("dev starts", "version", version, effective(command))

	announced := filepath.Join(folder.Path, "endpoints.json")
	if err := os.Remove(announced); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the last run's addresses: %w", err)
	}
	children, err := startChildren(starting, folder)
	if err != nil {
		return err
	}
	defer children.stop()
	if err := postgres.Migrate(starting, children.database.URL); err != nil {
		return err
	}
	keys := filepath.Join(folder.Path, "keys.json")
	ring, err := keptKeys(keys)
	if err != nil {
		return err
	}
	st, err := openStores(starting, children.redis.URL, children.database.URL, ring)
	if err != nil {
		return err
	}
	defer st.close()
	people, err := keptAccounts(starting, st, filepath.Join(folder.Path, "operators.json"))
	if err != nil {
		return err
	}
	key, err := c.key(starting, st, filepath.Join(folder.Path, "operator-key"))
	if err != nil {
		return err
	}

	home := reachable(public, c.Listen)
	office := core{Sandbox: true, PublicURL: home}
	box, err := office.build(st, log)
	if err != nil {
		return err
	}
	mail := mailing{MailDir: filepath.Join(folder.Path, "mail"), MailFrom: c.MailFrom}
	if err := os.MkdirAll(mail.MailDir, 0o700); err != nil {
		return fmt.Errorf("make the mail folder: %w", err)
	}
	jobs, err := work(st, log, mail.config(), office, c.BeaconHosts)
	if err != nil {
		return err
	}
	g, err := c.edge.build(st, log, []*url.URL{{Scheme: "http", Host: inner.Addr().String()}})
	if err != nil {
		return err
	}
	announce := func(ctx context.Context) error {
		if err := c.open(ctx, st, g); err != nil {
			return err
		}
		e := endpoints{HTTP: home, Admin: reachable(private, c.AdminListen), RedisURL: children.redis.TCPURL, DatabaseURL: children.database.URL}
		if err := e.write(announced); err != nil {
			return err
		}
		say(p, e, people, key, folder.Path)
		<-ctx.Done()
		return ctx.Err()
	}
	behind := append(jobs, g.hall.Run, g.server.Run, g.makeRooms, st.followKeys(keys, log), box.Run, children.keep(folder, log), admin(private, g.server.Ready, log))
	if c.Demo {
		behind = append(behind, crowd(g.hall, log))
	}
	return runStages(ctx, atOnce,
		[]part{serving(g.server.Guard(public), g.server.Handler(), log, g.server.Drain, atOnce), announce},
		[]part{serving(inner, box.Handler(), log, nil, atOnce)},
		behind,
	)
}

// open loads the demo and waits until the gateway can admit.
func (c devCommand) open(ctx context.Context, st *stores, g *builtGateway) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if c.Demo {
		events, err := booking.EnsureDemo(ctx, st.db, time.Now())
		if err != nil {
			return fmt.Errorf("load the demo: %w", err)
		}
		for _, e := range events {
			settings := queue.Patch{
				Title:      queue.Opt[string]{Sent: true, Value: &e.Title},
				PacePerMin: queue.Opt[int]{Sent: true, Value: &e.PacePerMin},
			}
			if err := g.makeRoom(ctx, e.Slug, settings); err != nil {
				return fmt.Errorf("make the demo's room %s: %w", e.Slug, err)
			}
			if err := g.knows(ctx, e.Slug); err != nil {
				return err
			}
		}
	}
	return until(ctx, func() error { return g.server.Ready(ctx) })
}

// knows waits until the gateway has heard of an event, or for some seconds: an
// operator may have taken a demo event back.
func (g *builtGateway) knows(ctx context.Context, event string) error {
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := until(short, func() error {
		if _, known := g.hall.RoomOfEvent(event); !known {
			return errors.New("unknown")
		}
		return nil
	})
	if err != nil {
		g.log.Info("demo event is not on sale", "event", event)
	}
	return ctx.Err()
}

// until tries act until it succeeds or ctx ends.
func until(ctx context.Context, act func() error) error {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := act()
		if err == nil {
			return nil
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// keptKeys are the keys of the data folder, made at the first start.
func keptKeys(path string) (*keyring.Ring, error) {
	ring, err := keyring.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		ring = keyring.Generate(time.Now())
		return ring, ring.Save(path)
	}
	return ring, err
}

// person is an operator's account of the data folder.
type person struct {
	Email    string        `json:"email"`
	Password string        `json:"password"`
	Role     operator.Role `json:"role"`
}

// keptAccounts are the accounts of the data folder, made at the first start with
// random passwords, and put into the database.
func keptAccounts(ctx context.Context, st *stores, path string) ([]person, error) {
	people := []person{
		{Email: "admin@usher.example", Password: rand.Text(), Role: operator.Admin},
		{Email: "operator@usher.example", Password: rand.Text(), Role: operator.Operator},
	}
	if err := kept(path, &people); err != nil {
		return nil, err
	}
	for _, who := range people {
		account := operator.Account{ID: uuid.Must(uuid.NewV7()), Email: who.Email, Name: who.Email, Role: who.Role, CreatedAt: time.Now().UTC()}
		if err := operator.PutAccount(ctx, st.db, account, who.Password); err != nil {
			return nil, fmt.Errorf("make the account %s: %w", who.Email, err)
		}
	}
	return people, nil
}

// key is the API key to accept: the one that was set, or the data folder's own.
func (c devCommand) key(ctx context.Context, st *stores, path string) (string, error) {
	key := c.OperatorKey
	if key == "" {
		_, key = operator.NewToken()
		if err := kept(path, &key); err != nil {
			return "", err
		}
	}
	// Through the database, so that a Redis that lost everything has it again, and
	// a key of an earlier start is good no longer.
	who := operator.Key{ID: "dev", Name: "dev", Role: operator.Admin, CreatedAt: time.Now().UTC()}
	if err := operator.PutKey(ctx, st.db, who, key); err != nil {
		return "", err
	}
	return key, operator.Publish(ctx, st.db, st.redis)
}

// kept reads the JSON file at path into v, or writes v there when there is none.
func kept(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeJSON(path, v)
}

// writeJSON writes v for our eyes alone, whole or not at all.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// endpoints tell other programs how to reach what dev started.
type endpoints struct {
	HTTP        string `json:"http"`
	Admin       string `json:"admin"`
	RedisURL    string `json:"redis_url"`
	DatabaseURL string `json:"database_url"`
}

func (e endpoints) write(path string) error {
	if err := writeJSON(path, e); err != nil {
		return fmt.Errorf("write endpoints.json: %w", err)
	}
	return nil
}

// say tells people where to go, and programs that all is ready.
func say(p process, e endpoints, people []person, key, folder string) {
	fmt.Fprintf(p.stdout, "shop      %s/\nconsole   %s/console\nadmin     %s/metrics\n", e.HTTP, e.HTTP, e.Admin)
	for _, who := range people {
		fmt.Fprintf(p.stdout, "sign-in   %s  %s  (%s)\n", who.Email, who.Password, who.Role)
	}
	fmt.Fprintf(p.stdout, "API key   %s\ndata      %s (mail in mail/, addresses in endpoints.json)\n", key, folder)
	fmt.Fprintf(p.stdout, "ready %s\n", e.HTTP)
}
