package gateway

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"usher/queue"
)

// Every field of the document is filled, so that one added later fails here.
func TestAppendPlaceIsWhatJSONWouldWrite(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 20, 15, 1, 230e6, time.UTC)
	n, zero := uint64(1)<<53+1, uint64(0)
	reason := "slowed"
	message := "<b>„Bald“\u2028\"\x01 & \xff"
	full := queue.Place{
		Room: "gala-2", Epoch: "01a20cc0-f851-708c-b1ef-5093dfb01541", Number: n, Phase: queue.Open, State: queue.Waiting,
		Rank: &n, Position: &n, Ahead: &zero, Waiting: n, Progress: 0.0000125, ETA: &queue.Band{Low: 3, High: 90}, ETAReason: &reason,
		CallExpiresAt: &at, CallExtendable: true, PassExpiresAt: &at, Message: &message, JoinedAt: at, LobbyAt: &at, OpensAt: &at, Now: at,
	}
	fields := reflect.ValueOf(full)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("%s is not tried", fields.Type().Field(i).Name)
		}
	}
	for name, p := range map[string]queue.Place{"full": full, "empty": {}} {
		var want, got any
		plain, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		ours := appendPlace(nil, &p)
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(ours, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%s\n%s", name, err, ours, plain)
		}
	}
}

func BenchmarkAppendPlace(b *testing.B) {
	n := uint64(1234)
	p := queue.Place{Room: "gala", Epoch: "01a20cc0-f851-708c-b1ef-5093dfb01541", Phase: queue.Open, State: queue.Waiting, Rank: &n, Position: &n, Ahead: &n, Progress: 0.33, JoinedAt: time.Now(), Now: time.Now()}
	b.Run("append", func(b *testing.B) {
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			buf = appendPlace(buf[:0], &p)
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			_, _ = json.Marshal(p)
		}
	})
}
