package booking

import (
	"net/http"
	"testing"
	"time"
)

// TestStockIsTold: a room hears that everything is sold, and that something came back; holds
// and orders that are not paid sell nothing out, and a wiped Redis hears it again.
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
	for first := 0; first < len(l.Seats); first += 5 {
		sh.play(sh.fan().orders(first, first+1, first+2, first+3, first+4), "approve")
	}
	told(stockLeft)
	var last Order
	for range 30 / sh.maxSeats {
		f := sh.fan()
		h := into[Hold](t, f.hold(`{"areas":[{"id":"`+shopArea+`","quantity":6}]}`), http.StatusCreated)
		told(stockLeft)
		last = into[Order](t, f.order("k", orderBody(h.ID)), http.StatusCreated)
		told(stockLeft)
		sh.play(last, "approve")
	}
	told(stockGone)
	sh.forget()
	told(stockGone)
	sh.rdb.Del(t.Context(), stockKey)
	told(stockGone)
	into[OperateOrder](t, sh.call(http.MethodPost, sh.base+"/api/v1/operate/events/"+shopEvent+"/orders/"+last.ID+"/refund",
		http.Header{"Authorization": {"Bearer " + testKey}, "Idempotency-Key": {"k"}}, ""), http.StatusOK)
	sh.work(t, func() bool { return sh.rdb.HGet(t.Context(), stockKey, shopEvent).Val() == stockLeft })
	sh.operate(http.MethodPut, "/events/"+shopEvent, `{"status":"ended"}`)
	told("")
	sh.operate(http.MethodPut, "/events/"+shopEvent, `{"status":"on_sale"}`)
	told(stockLeft)
	sh.ahead.Store(int64(31 * 24 * time.Hour)) // the performance is over
	told("")
}
