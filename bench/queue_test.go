package main

import (
	"reflect"
	"testing"
)

func TestReadFigures(t *testing.T) {
	t.Parallel()
	said := "goos: linux\nBenchmarkQueueDraw/1000000-2 \t 1\t 0.61 ms-longest\t 0.3 s-to-first-call\nBenchmarkQueueMemory/10000000 \t1\t 133.7 B/member\nPASS\n"
	want := map[string]figures{
		"QueueDraw/1000000":    {"ms-longest": 0.61, "s-to-first-call": 0.3},
		"QueueMemory/10000000": {"B/member": 133.7},
	}
	if got := readFigures([]byte(said)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
