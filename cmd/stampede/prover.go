package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// A prover is a process that computes proofs for bots behind everything else that this machine has to do: they have
// machines of their own. It is a process and not a thread, because a Go program whose collector waits for a thread
// that gets no time stands still as a whole.
type prover struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// proverMark in the environment makes this program a prover.
const proverMark = "STAMPEDE_PROVER"

// startProver runs this program again, as a prover, until stop.
func startProver(ctx context.Context) (*prover, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &prover{cmd: exec.CommandContext(ctx, self)}
	p.cmd.Env = append(os.Environ(), proverMark+"=1", "GOMAXPROCS=1")
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	return p, p.cmd.Start()
}

func (p *prover) stop() {
	_ = p.cmd.Process.Kill() // it may have ended already
	_ = p.cmd.Wait()
}

// solve has a challenge answered.
func (p *prover) solve(challenge json.RawMessage) (string, error) {
	line, err := json.Marshal(challenge) // on one line
	if err != nil {
		return "", err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return "", err
	}
	var said provided
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(answer, &said); err != nil {
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
	if err := stepBack(); err != nil {
		return fmt.Errorf("compute behind others: %w", err)
	}
	lines := bufio.NewScanner(in)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var said provided
		answer, err := solve(context.Background(), lines.Bytes())
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
