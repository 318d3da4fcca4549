package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"usher/internal/operator"
	"usher/internal/postgres"
)

type operatorCommand struct {
	Create operatorCreate `cmd:"" help:"Make an account; the way to the first one."`
}

type operatorCreate struct {
	databaseFlag
	Email         string   `required:"" help:"The address to sign in with."`
	Name          string   `help:"How the account is shown; default the address."`
	Role          string   `enum:"admin,operator,viewer,gate" default:"admin" help:"admin, operator, viewer or gate."`
	Events        []string `help:"Slugs of the only events that the account may see; default all."`
	PasswordStdin bool     `help:"Read the password from standard input; otherwise one is made and printed."`
}

func (c operatorCreate) Run(ctx context.Context, p process) error {
	if a, err := mail.ParseAddress(c.Email); err != nil || a.Address != c.Email {
		return usageError{fmt.Errorf("%q is no e-mail address", c.Email)}
	}
	password := rand.Text()
	if c.PasswordStdin {
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, 4<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the password: %w", err)
		}
		password = strings.TrimRight(line, "\r\n")
		if n := len(password); n < operator.MinPassword || n > operator.MaxPassword {
			return usageError{fmt.Errorf("a password has %d to %d bytes", operator.MinPassword, operator.MaxPassword)}
		}
	}
	if c.Name == "" {
		c.Name = c.Email
	}
	db, err := postgres.Open(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	account := operator.Account{
		ID: uuid.Must(uuid.NewV7()), Email: c.Email, Name: c.Name, Role: operator.Role(c.Role), Events: c.Events, CreatedAt: time.Now().UTC(),
	}
	if err := operator.CreateAccount(ctx, db, account, password); err != nil {
		return fmt.Errorf("create the account: %w", err)
	}
	if c.PasswordStdin {
		_, err = fmt.Fprintf(p.stdout, "%s may sign in as %s\n", c.Email, c.Role)
	} else {
		_, err = fmt.Fprintf(p.stdout, "%s may sign in as %s with the password %s\n", c.Email, c.Role, password)
	}
	return err
}
