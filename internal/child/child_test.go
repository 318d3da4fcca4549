package child

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if kind := Kind(); kind != "" {
		said := bufio.NewScanner(os.Stdin)
		for said.Scan() {
			fmt.Println(kind + " heard " + said.Text())
		}
		fmt.Println(kind + " ends")
		return
	}
	os.Exit(m.Run())
}

func TestAChildAnswersAndEndsWhenItIsTold(t *testing.T) {
	t.Parallel()
	c, err := Start(t.Context(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", `{"two": 2}`} {
		if err := c.Say(word); err != nil {
			t.Fatal(err)
		}
		if line, err := c.Hear(); err != nil || line != "echo heard "+word {
			t.Fatalf("heard %q, %v", line, err)
		}
	}
	c.Close()
	if line, err := c.Hear(); err != nil || line != "echo ends" {
		t.Errorf("heard %q, %v", line, err)
	}
	if _, err := c.Hear(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a child that has ended: %v", err)
	}
	c.Stop()
}

func TestAChildEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Start(ctx, "echo")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	cancel()
	if _, err := c.Hear(); err == nil {
		t.Error("it still speaks")
	}
	c.Stop()
	if ended := c.cmd.ProcessState; ended == nil || ended.Success() {
		t.Errorf("ended as %v, want killed", ended)
	}
}
