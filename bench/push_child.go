package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"usher/internal/child"
)

// children are what this program may be started as, beside itself.
var children = child.Kinds{
	"bare-gin":    serveBare,
	"bare-writer": serveBareWriter,
	"crowd":       serveCrowd,
	"origin":      serveOrigin,
	"plain-proxy": servePlainProxy,
}

// startChild runs this program again and sends it a first line.
func startChild(ctx context.Context, kind, first string) (*child.Child, error) {
	c, err := child.Start(ctx, kind)
	if err != nil {
		return nil, err
	}
	if err := c.Say(first); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// A throng is several crowds, a process each.
type throng []*child.Child

// gather starts the crowds one beside the other and waits until all their sockets are open.
func gather(ctx context.Context, crowds ...crowd) (t throng, err error) {
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	for _, c := range crowds {
		described, err := json.Marshal(c)
		if err != nil {
			return t, err
		}
		p, err := startChild(ctx, "crowd", string(described))
		if err != nil {
			return t, err
		}
		t = append(t, p)
	}
	_, err = t.heard()
	return t, err
}

func (t throng) stop() {
	for _, c := range t {
		c.Stop()
	}
}

// look tells what all of them saw together.
func (t throng) look() (sighting, error) {
	for _, c := range t {
		if err := c.Say("look"); err != nil {
			return sighting{}, err
		}
	}
	return t.heard()
}

func (t throng) heard() (all sighting, err error) {
	for _, c := range t {
		line, err := c.Hear()
		if err != nil {
			return all, err
		}
		var s sighting
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return all, err
		}
		all.add(s)
	}
	return all, nil
}

// usage is what a process has used and holds.
type usage struct {
	cpu time.Duration // user and system, to 10 ms
	rss int64         // bytes
}

// usageOf reads it from the kernel.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ") // a program's name may hold spaces
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return u, errors.New("the kernel's word on a process is not understood")
	}
	const userTicks, systemTicks, pages = 11, 12, 21
	numbers := map[int]int64{userTicks: 0, systemTicks: 0, pages: 0}
	for i := range numbers {
		if numbers[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return u, err
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return usage{
		cpu: time.Duration(numbers[userTicks]+numbers[systemTicks]) * tick,
		rss: numbers[pages] * int64(os.Getpagesize()),
	}, nil
}
