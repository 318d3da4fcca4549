package main

import (
	"errors"
	"testing"
)

func TestAnswersAreReadOneByOne(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answers string
		want          []int  // the statuses, in turn
		body          string // of the last
		part          bool   // what follows may become an answer
	}{
		{"as a gateway answers", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nX: y\r\n\r\n{}HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nplaceHTTP/1.1 ", []int{403, 201}, "place", true},
		{"nothing to read", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", []int{204, 429}, "", true},
		{"a body begun", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplac", nil, "", true},
		{"hardly begun", "HT", nil, "", true},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil, "", false},
		{"no answer", "SSH-2.0-OpenSSH_9.2 and more of that\r\n", nil, "", false},
		{"no status", "HTTP/1.1 \r\n\r\n", nil, "", false},
		{"a wrong length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", nil, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := []byte(test.answers)
			for i := 0; ; i++ {
				status, body, rest, err := cutAnswer(in)
				if i == len(test.want) {
					if err == nil || errors.Is(err, errPart) != test.part {
						t.Errorf("then read %d %q, %v", status, body, err)
					}
					return
				}
				if err != nil || status != test.want[i] || i == len(test.want)-1 && string(body) != test.body {
					t.Fatalf("answer %d: %d %q, %v", i, status, body, err)
				}
				in = rest
			}
		})
	}
}

func TestLatenessIsThatOfNinetyNineOfAHundred(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		late []int
		want int
	}{{[]int{0, 0}, 1}, {[]int{99, 1}, 1}, {[]int{98, 1, 1}, 2}, {[]int{0, 0, 5}, 3}} {
		if got := within(test.late); got != test.want {
			t.Errorf("%v: within %d ms, want %d", test.late, got, test.want)
		}
	}
}
