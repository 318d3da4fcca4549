package devstack

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports that FreePorts gives are below those that the kernel gives to whoever does not
// ask for one by number, as every outgoing connection does: they stay free for a while.
const firstPort, endPort = 20_000, 32_000

// FreePorts finds n different loopback ports that nobody has. Another process may take one
// before the server does; the server then ends and the start reports it.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range 100 * n {
		port := firstPort + rand.IntN(endPort-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // somebody's
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no loopback ports are free")
}
