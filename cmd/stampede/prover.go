package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"usher/internal/child"
)

// children are what this program may be started as.
var children = child.Kinds{
	"prover": prove,
	"flood":  flood,
}

// provers compute proofs in processes of their own, behind everything else that this machine has to do: who answers
// challenges has a machine of its own. They are processes and not threads, because a Go program whose collector waits
// for a thread that gets no time stands still as a whole.
type provers struct {
	all  []*child.Child
	free chan *child.Child
}

// startProvers starts n processes. stop must be called when the context has ended, or nothing is asked any more.
func startProvers(ctx context.Context, n int) (*provers, error) {
	p := &provers{free: make(chan *child.Child, n)}
	for range n {
		c, err := child.StartBehind(ctx, "prover")
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("start a prover: %w", err)
		}
		p.all = append(p.all, c)
		p.free <- c
	}
	return p, nil
}

func (p *provers) stop() {
	for _, c := range p.all {
		c.Stop()
	}
}

// solve has a challenge answered, once one of them is free.
func (p *provers) solve(ctx context.Context, challenge json.RawMessage) (string, error) {
	select {
	case c := <-p.free:
		defer func() { p.free <- c }()
		return ask(c, challenge)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func ask(c *child.Child, challenge json.RawMessage) (string, error) {
	line, err := json.Marshal(challenge) // on one line
	if err != nil {
		return "", err
	}
	if err := c.Say(string(line)); err != nil {
		return "", err
	}
	answer, err := c.Hear()
	if err != nil {
		return "", err
	}
	var said provided
	if err := json.Unmarshal([]byte(answer), &said); err != nil {
		return "", err
	}
	if said.Fault != "" {
		return "", errors.New(said.Fault)
	}
	return said.Answer, nil
}

// provided is a prover's line.
type provided struct {
	Answer string `json:"answer"`
	Fault  string `json:"fault"`
}

// prove is a prover's whole life: a challenge a line in, an answer a line out, until in ends.
func prove(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var said provided
		answer, err := solve(lines.Bytes())
		if err != nil {
			said.Fault = err.Error()
		}
		said.Answer = answer
		if err := answers.Encode(said); err != nil {
			return err
		}
	}
	return lines.Err()
}
