package redisx

import (
	"reflect"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestClientByURL(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"alone":    "redis://:pw@127.0.0.1:6379/2",
		"unix":     "unix:///run/redis.sock?db=0",
		"tls":      "rediss://127.0.0.1:6379",
		"sentinel": "redis+sentinel://:pw@127.0.0.1:1,127.0.0.2:2/mymaster?db=1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, err := client(url)
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			o := rdb.(*redis.Client).Options()
			if !o.ContextTimeoutEnabled {
				t.Error("deadlines would not stop reads")
			}
		})
	}
	rdb, err := client("redis+cluster://127.0.0.1:1,127.0.0.2:2")
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	o := rdb.(*redis.ClusterClient).Options()
	if want := []string{"127.0.0.1:1", "127.0.0.2:2"}; !reflect.DeepEqual(o.Addrs, want) || !o.ContextTimeoutEnabled {
		t.Errorf("addresses %v, want %v", o.Addrs, want)
	}
}

func TestBadURLsKeepTheirPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"redis://:s3cret@[::1", "redis+sentinel://:s3cret@a:x/m", "http://:s3cret@a", "s3cret", "redis://:s3cret@a/notanumber"} {
		_, err := client(url)
		if err == nil {
			t.Errorf("%q is accepted", url)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error holds the password: %v", err)
		}
	}
}
