package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"usher/internal/keyring"
)

type keysCommand struct {
	New    keysNew    `cmd:"" help:"Make a file of fresh keys. An existing file is never touched."`
	Rotate keysRotate `cmd:"" help:"Add a key that signs from now on; places and passes signed before stay good."`
	List   keysList   `cmd:"" help:"List the keys, without their secrets."`
}

type keysNew struct {
	keysFlag
	IfMissing bool `help:"Succeed without doing anything where the file exists."`
}

func (c keysNew) Run(p process) error {
	if _, err := os.Lstat(c.KeysFile); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return fmt.Errorf("keys file: %w", err)
		}
		if c.IfMissing {
			return nil
		}
		return fmt.Errorf("keys file %s exists: every place, pass and ticket hangs on its keys, so it stays as it is", c.KeysFile)
	}
	if err := keyring.Generate(time.Now()).Save(c.KeysFile); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "%s written: guard it and back it up\n", c.KeysFile)
	return err
}

type keysRotate struct {
	keysFlag
	Purpose string `arg:"" enum:"pass,place" help:"Which key: pass or place."`
}

func (c keysRotate) Run(p process) error {
	ring, err := keyring.Load(c.KeysFile)
	if err != nil {
		return err
	}
	switch c.Purpose {
	case "pass":
		ring.RotatePass(time.Now())
	case "place":
		ring.RotatePlace(time.Now())
	}
	if err := ring.Save(c.KeysFile); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "a new %s key signs once the processes have been restarted with this file\n", c.Purpose)
	return err
}

type keysList struct{ keysFlag }

func (c keysList) Run(p process) error {
	ring, err := keyring.Load(c.KeysFile)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PURPOSE\tID\tCREATED\tUSE")
	for _, k := range ring.List() {
		use := "verifies"
		if k.Signs {
			use = "signs"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", k.Purpose, k.ID, k.Created.UTC().Format(time.RFC3339), use)
	}
	return table.Flush()
}
