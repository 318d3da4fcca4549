package main

import (
	"context"
	"fmt"

	"usher/internal/postgres"
)

type migrateCommand struct{ databaseFlag }

func (c migrateCommand) Run(ctx context.Context, p process) error {
	if err := postgres.Migrate(ctx, c.DatabaseURL); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.stdout, "the schema is up to date")
	return err
}
