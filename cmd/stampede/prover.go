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

// A prover computes proofs in a process of its own, behind everything else that this machine has to do: who answers
// challenges has a machine of its own. It is a process and not a thread, because a Go program whose collector waits for a
// thread that gets no time stands still as a whole; fans have one and bots have one, so that no processor has always
// something to do (see stint).
type prover struct {
	child *child.Child
	free  chan struct{} // holds one token while nothing is asked
}

// startProver starts the process. stop must be called when the context has ended, or nothing is asked any more.
func startProver(ctx context.Context) (*prover, error) {
	c, err := child.StartBehind(ctx, "prover")
	if err != nil {
		return nil, fmt.Errorf("start a prover: %w", err)
	}
	p := &prover{child: c, free: make(chan struct{}, 1)}
	p.free <- struct{}{}
	return p, nil
}

func (p *prover) stop() { p.child.Stop() }

// solve has a challenge answered, once those who asked before have their answers.
func (p *prover) solve(ctx context.Context, challenge json.RawMessage) (string, error) {
	select {
	case <-p.free:
		defer func() { p.free <- struct{}{} }()
		return ask(p.child, challenge)
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
