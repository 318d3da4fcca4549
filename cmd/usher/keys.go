package main

import (
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"usher/internal/keyring"
)

type keysCommand struct {
	New    keysNew    `cmd:"" help:"Make a file of fresh keys. An existing file is never touched."`
	Rotate keysRotate `cmd:"" help:"Add keys that sign after a while; what was signed before stays good."`
	Retire keysRetire `cmd:"" help:"Take out a key: what it signed is good no longer."`
	List   keysList   `cmd:"" help:"List the keys and their ages, without their secrets."`
}

type keysNew struct {
	keysFlag
	IfMissing bool `help:"Succeed without doing anything where the file exists."`
}

func (c keysNew) Run(p process) error {
	err := keyring.Generate(time.Now()).Create(c.KeysFile)
	switch {
	case errors.Is(err, fs.ErrExist) && c.IfMissing:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("keys file %s exists: every place, pass and ticket hangs on its keys, so it stays as it is", c.KeysFile)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s written: guard it and back it up\n", c.KeysFile)
	return err
}

type keysRotate struct {
	keysFlag
	Purpose string        `arg:"" optional:"" default:"all" enum:"all,pass,place,hold,access" help:"Which key: pass, place, hold, access or all (the default)."`
	Lead    time.Duration `default:"2m" help:"How long the new key is only published before it signs. Within it the file must reach every machine; running processes read it within seconds."`
}

func (c keysRotate) Run(p process) error {
	if c.Lead < 0 {
		return errors.New("--lead must not be negative")
	}
	now := time.Now()
	err := keyring.Edit(c.KeysFile, func(ring *keyring.Ring) error {
		for _, purpose := range keyring.Purposes {
			if c.Purpose == "all" || c.Purpose == string(purpose) {
				ring.Rotate(purpose, now, now.Add(c.Lead))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "the new keys (%s) sign from %s on; until then this file must be on every machine\n", c.Purpose, now.Add(c.Lead).UTC().Format(time.RFC3339))
	return err
}

type keysRetire struct {
	keysFlag
	ID        string `arg:"" help:"The key, as usher keys list names it."`
	Withdrawn bool   `help:"Retire it though what it signed may still be shown: a key that leaked."`
}

func (c keysRetire) Run(p process) error {
	var purpose keyring.Purpose
	err := keyring.Edit(c.KeysFile, func(ring *keyring.Ring) (err error) {
		purpose, err = ring.Retire(c.ID, time.Now(), c.Withdrawn)
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s key %s is out: processes refuse what it signed within seconds\n", purpose, c.ID)
	return err
}

type keysList struct{ keysFlag }

func (c keysList) Run(p process) error {
	ring, err := keyring.Load(c.KeysFile)
	if err != nil {
		return err
	}
	now := time.Now()
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PURPOSE\tID\tCREATED\tAGE\tUSE")
	for _, k := range ring.List() {
		use := "verifies"
		switch {
		case k.Signs:
			use = "signs"
		case k.Next:
			use = "next, from " + k.From.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", k.Purpose, k.ID, k.Created.UTC().Format(time.RFC3339), age(now.Sub(k.Created)), use)
	}
	return table.Flush()
}

// age is a duration for people: days, else hours, else minutes.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", max(0, d)/time.Minute)
}
