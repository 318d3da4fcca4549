package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// A peerProxy is another program that passes requests on.
type peerProxy struct {
	name    string
	program string
	// settings is its file: of a folder of its own, where to listen, and the origin.
	settings func(folder, listen, origin string) string
	args     func(folder, file string) []string
}

var peerProxies = []peerProxy{
	{"nginx", "nginx", nginxSettings, func(folder, file string) []string { return []string{"-p", folder, "-c", file} }},
	{"HAProxy", "haproxy", haproxySettings, func(_, file string) []string { return []string{"-q", "-db", "-f", file} }},
	{"Caddy", "caddy", caddySettings, func(_, file string) []string {
		return []string{"run", "--adapter", "caddyfile", "--config", file}
	}},
}

func nginxSettings(folder, listen, origin string) string {
	return fmt.Sprintf(`daemon off;
worker_processes %d;
pid nginx.pid;
error_log error.log;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	keepalive_requests 100000000;
	upstream origin { server %s; keepalive 512; keepalive_requests 100000000; }
	server {
		listen %s backlog=1024;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $host;
		}
	}
}
`, runtime.NumCPU(), origin, listen)
}

func haproxySettings(_, listen, origin string) string {
	return fmt.Sprintf(`global
	nbthread %d
	maxconn 4096
defaults
	mode http
	timeout connect 3s
	timeout client 30s
	timeout server 30s
	http-reuse aggressive
listen edge
	bind %s
	server origin %s
`, runtime.NumCPU(), listen, origin)
}

func caddySettings(_, listen, origin string) string {
	_, port, _ := net.SplitHostPort(listen) // made by us
	return fmt.Sprintf(`{
	admin off
	auto_https off
	storage file_system .
	log {
		level ERROR
	}
}
http://:%s {
	bind 127.0.0.1
	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host 512
		}
	}
}
`, port, origin)
}

// start runs the peer in front of the origin.
func (p peerProxy) start(ctx context.Context, folder, origin string) (at served, stop func(), err error) {
	program, err := exec.LookPath(p.program)
	if err != nil {
		// Debian keeps servers where only root looks.
		if program, err = exec.LookPath("/usr/sbin/" + p.program); err != nil {
			return served{}, nil, errors.New("not installed here")
		}
	}
	dir, err := peerFolder(folder, p.program)
	if err != nil {
		return served{}, nil, err
	}
	if at.address, err = freeAddress(); err != nil {
		return served{}, nil, err
	}
	file := filepath.Join(dir, "settings")
	if err := os.WriteFile(file, []byte(p.settings(dir, at.address, origin)), 0o644); err != nil {
		return served{}, nil, err
	}
	at.pid, stop, err = startPeer(ctx, dir, at.address, []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, program, p.args(dir, file)...)
	return at, stop, err
}

// startPeer runs a program in a folder, with settings in its environment, until it accepts connections at address.
func startPeer(ctx context.Context, dir, address string, settings []string, program string, args ...string) (pid int, stop func(), err error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
	cmd.Env = append(os.Environ(), settings...)
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in what it said
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 400 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return cmd.Process.Pid, stop, nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return 0, nil, fmt.Errorf("does not start: %.300s", said.String())
		}
	}
	stop()
	return 0, nil, fmt.Errorf("does not listen: %.300s", said.String())
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
