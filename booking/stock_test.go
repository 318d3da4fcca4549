package booking

import (
	"net/http"
	"testing"
	"time"
)

// TestStockIsTold: a room hears that everything is ordered, and that something came back; a
// hold alone sells nothing out, and a wiped Redis hears it again.
func TestStockIsTold(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	told := func(want string) {
		t.Helper()
		if err := sh.s.tellStock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sh.rdb.HGetAll(t.Context(), stockKey).Val(); got[shopEvent] != want {
			t.Errorf("told %v, want %q", got, want)
		}
	}
	told(stockLeft) // nobody has looked at the map yet
	l := sh.layout()
	var last Order
	for first := 0; first < l.Units(); first += sh.maxSeats {
		f := sh.fan()
		if first == 36 { // the last seats and the floor
			last = f.orders(36, 37, 38, 39)
			break
		}
		f.orders(first, first+1, first+2, first+3, first+4, first+5)
	}
	told(stockLeft)
	for range 30 / sh.maxSeats {
		f := sh.fan()
		h := into[Hold](t, f.hold(`{"areas":[{"id":"`+shopArea+`","quantity":6}]}`), http.StatusCreated)
		told(stockLeft) // held is not ordered
		into[Order](t, f.order("k", orderBody(h.ID)), http.StatusCreated)
	}
	told(stockGone)
	sh.forget()
	told(stockGone)
	sh.rdb.Del(t.Context(), stockKey)
	told(stockGone)
	sh.play(last, "decline")
	told(stockLeft)
	sh.operate(http.MethodPut, "/events/"+shopEvent, `{"status":"ended"}`)
	told("")
	sh.operate(http.MethodPut, "/events/"+shopEvent, `{"status":"on_sale"}`)
	told(stockLeft)
	sh.ahead.Store(int64(31 * 24 * time.Hour)) // the performance is over
	told("")
}
