package booking

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"usher/internal/operator"
)

func TestOperateOrders(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	var made []Order
	for seat := range 5 {
		made = append(made, sh.fan().orders(seat))
	}
	sh.play(made[4], "approve")
	key := http.Header{"Authorization": {"Bearer " + testKey}}
	list := sh.base + "/api/v1/operate/events/" + shopEvent + "/orders"
	seen := map[string]bool{}
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		page := into[OperateOrders](t, sh.call(http.MethodGet, list+"?limit=2&cursor="+cursor, key, ""), http.StatusOK)
		for _, o := range page.Orders {
			if seen[o.ID] {
				t.Errorf("order %s twice", o.ID)
			}
			seen[o.ID] = true
		}
		cursor = page.Next
	}
	if len(seen) != 5 {
		t.Errorf("%d orders listed", len(seen))
	}
	for query, want := range map[string]int{
		"?state=paid": 1, "?q=FAN@example": 5, "?q=nobody": 0, "?q=%25": 0, "?q=" + made[1].ID: 1, "?q=a+fan&state=pending": 4,
	} {
		if page := into[OperateOrders](t, sh.call(http.MethodGet, list+query, key, ""), http.StatusOK); len(page.Orders) != want {
			t.Errorf("%s lists %d, want %d", query, len(page.Orders), want)
		}
	}
	sh.call(http.MethodGet, list+"?state=new", key, "").want(t, http.StatusUnprocessableEntity, "invalid")
	sh.call(http.MethodGet, list+"?cursor=x", key, "").want(t, http.StatusUnprocessableEntity, "invalid")
	sh.call(http.MethodGet, list, nil, "").want(t, http.StatusUnauthorized, "unauthenticated")

	a := sh.call(http.MethodGet, list+"?format=csv", key, "")
	lines, err := csv.NewReader(strings.NewReader(string(a.body))).ReadAll()
	if err != nil || len(lines) != 6 || lines[1][5] != "fan@example.com" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
		t.Errorf("CSV %v: %s", err, a.body)
	}
	if inert("=1+1") != "'=1+1" || inert("＝1+1") != "'＝1+1" || inert("Ann") != "Ann" || inert("") != "" {
		t.Error("a formula passes into a spreadsheet")
	}
}

func TestOperateRefund(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o, unpaid := f.orders(0, 1), f.orders(2)
	sh.play(o, "approve")
	code := sh.state(o).Tickets[0].Code
	refund := func(id, key string) answered {
		h := http.Header{"Authorization": {"Bearer " + testKey}}
		if key != "" {
			h.Set("Idempotency-Key", key)
		}
		return sh.call(http.MethodPost, sh.base+"/api/v1/operate/events/"+shopEvent+"/orders/"+id+"/refund", h, "")
	}
	refund(o.ID, "").want(t, http.StatusBadRequest, "idempotency-key-required")
	refund(uuid.NewString(), "a").want(t, http.StatusNotFound, "order-not-found")
	refund(unpaid.ID, "b").want(t, http.StatusConflict, "order-pending")
	bodies := make([]answered, 20)
	storm(len(bodies), func(i int) { bodies[i] = refund(o.ID, "c") })
	for _, a := range bodies {
		if got := into[OperateOrder](t, a, http.StatusOK); got.State != orderRefunding || got.Paid != 10000 || !sameJSON(a.body, bodies[0].body) {
			t.Errorf("refund answered %s", a.body)
		}
	}
	refund(unpaid.ID, "c").want(t, http.StatusUnprocessableEntity, "idempotency-mismatch")
	refund(o.ID, "d").want(t, http.StatusConflict, "order-refunding")
	if got := states(t, f.availability()); got[0] != unitFree || got[1] != unitFree || got[2] != unitHeld {
		t.Errorf("seats after the refund: %v", got)
	}
	sh.call(http.MethodPost, sh.base+"/api/v1/checkin", http.Header{"Authorization": {"Bearer " + testKey}}, `{"code":"`+code+`"}`).
		want(t, http.StatusConflict, "ticket-void")
	sh.work(t, func() bool { return sh.state(o).State == orderRefunded })
	refund(o.ID, "e").want(t, http.StatusConflict, "order-refunded")

	report := into[Report](t, sh.call(http.MethodGet, sh.base+"/api/v1/operate/events/"+shopEvent+"/report", http.Header{"Authorization": {"Bearer " + testKey}}, ""), http.StatusOK)
	if report.Orders[orderRefunded] != 1 || report.Orders[orderPending] != 1 || report.Paid != 10000 || report.Refunded != 10000 {
		t.Errorf("report %+v", report)
	}
	if c := report.Performances[0].Categories[0]; c != (CategoryReport{"Dear", 20, 1, 0}) {
		t.Errorf("report of a category %+v", c)
	}
	changes, err := operator.Changes(t.Context(), sh.db, "event/"+shopEvent+"/order/"+o.ID, sh.now(), uuid.Max, 10)
	if err != nil || len(changes) != 1 || changes[0].Act != "order.refund" {
		t.Errorf("audit %+v %v", changes, err)
	}
	sh.whole()
}
