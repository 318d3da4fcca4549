package booking

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"usher/internal/keyring"
	"usher/internal/pass"
)

func states(t testing.TB, snap Snapshot) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(snap.Seats)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestHoldLocksAllOrNone(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	a, b := sh.fan(), sh.fan()
	h := a.holds(3, 1)
	if !slices.Equal(h.Seats, []int{1, 3}) || h.Total != (Money{10000, "EUR"}) || time.Until(h.ExpiresAt) > holdTime {
		t.Fatalf("hold %+v", h)
	}
	refused := b.hold(`{"seats":[0,1,2]}`)
	refused.want(t, http.StatusConflict, "seats-taken")
	var p struct {
		Taken       []int
		Alternative *Seats
	}
	if err := json.Unmarshal(refused.body, &p); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Taken, []int{1}) || p.Alternative == nil || !slices.Equal(p.Alternative.Seats, []int{4, 5, 6}) {
		t.Errorf("refused with %s", refused.body)
	}
	got := states(t, b.availability())
	want := make([]byte, 40)
	want[1], want[3] = unitHeld, unitHeld
	if !slices.Equal(got, want) {
		t.Errorf("seats %v, want %v", got, want)
	}
	again := into[Hold](t, sh.call(http.MethodGet, a.at("/holds/"+h.ID), a.header(), ""), http.StatusOK)
	if again.ID != h.ID || !slices.Equal(again.Seats, h.Seats) || again.Total != h.Total || !again.ExpiresAt.Equal(h.ExpiresAt) {
		t.Errorf("read again %+v, want %+v", again, h)
	}
	sh.call(http.MethodGet, a.at("/holds/"+h.ID), b.header(), "").want(t, http.StatusNotFound, "hold-not-found")
	sh.call(http.MethodDelete, a.at("/holds/"+h.ID), a.header(), "").want(t, http.StatusNoContent, "")
	sh.call(http.MethodGet, a.at("/holds/"+h.ID), a.header(), "").want(t, http.StatusGone, "hold-expired")
	a.order("k", orderBody(h.ID)).want(t, http.StatusGone, "hold-expired")
	b.holds(0, 1, 2)
}

func TestHoldRefusals(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	area := func(id string, n int) string { return fmt.Sprintf(`{"areas":[{"id":%q,"quantity":%d}]}`, id, n) }
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no JSON":               {`{"seats":`, 400, "bad-request"},
		"nothing asked":         {`{}`, 422, "invalid"},
		"negative":              {`{"seats":[-1]}`, 422, "invalid"},
		"out of range":          {`{"seats":[70]}`, 422, "invalid"},
		"a unit as a seat":      {`{"seats":[40]}`, 422, "invalid"},
		"repeated":              {`{"seats":[1,1]}`, 422, "invalid"},
		"text":                  {`{"seats":["1"]}`, 422, "invalid"},
		"fraction":              {`{"seats":[1.5]}`, 422, "invalid"},
		"huge":                  {`{"seats":[99999999999999999999]}`, 422, "invalid"},
		"object":                {`{"seats":{"0":1}}`, 422, "invalid"},
		"unknown field":         {`{"seats":[1],"price":1}`, 422, "invalid"},
		"other case":            {`{"Seats":[1]}`, 422, "invalid"},
		"more than the limit":   {`{"seats":[0,1,2,3,4,5,6]}`, 409, "hold-limit"},
		"501 seats":             {`{"seats":[` + strings.Repeat("1,", 500) + `1]}`, 422, "invalid"},
		"unknown area":          {area("22222222-2222-4222-8222-222222222222", 1), 422, "invalid"},
		"none of an area":       {area(shopArea, 0), 422, "invalid"},
		"minus of an area":      {area(shopArea, -3), 422, "invalid"},
		"best and seats":        {`{"seats":[1],"best":{"quantity":1}}`, 422, "invalid"},
		"best of no category":   {`{"best":{"quantity":1,"category":"Gold"}}`, 422, "invalid"},
		"best of none":          {`{"best":{"quantity":0}}`, 422, "invalid"},
		"best too cheap":        {`{"best":{"quantity":1,"max_price":1}}`, 409, "seats-taken"},
		"best accessible":       {`{"best":{"quantity":1,"accessible":true}}`, 409, "seats-taken"},
		"replacing nonsense":    {`{"seats":[1],"replace":"x"}`, 422, "invalid"},
		"body over the limit":   {`{"seats":[1],"replace":"` + strings.Repeat("x", 70_000) + `"}`, 413, "body-too-large"},
		"replacing what is not": {`{"seats":[1],"replace":"a.b.c"}`, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) { f.hold(c.body).want(t, c.status, c.code) })
	}
	for _, url := range []string{
		f.base + "/api/v1/events/nothing/performances/" + sh.performance + "/holds",
		f.base + "/api/v1/events/" + shopEvent + "/performances/" + uuid.NewString() + "/holds",
		f.base + "/api/v1/events/" + shopEvent + "/performances/x/holds",
	} {
		if a := sh.call(http.MethodPost, url, f.header(), `{"seats":[1]}`); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", url, a.status, a.body)
		}
	}
	a := sh.call(http.MethodPost, f.at("/holds"), nil, `{"seats":[1]}`)
	a.want(t, http.StatusForbidden, "pass-required")
	if !strings.Contains(string(a.body), `"join_url":"/rooms/`+shopRoom+`"`) {
		t.Errorf("pass-required says %s", a.body)
	}
	if got := states(t, f.availability()); !slices.Equal(got, make([]byte, 40)) {
		t.Errorf("refused holds left %v", got)
	}
}

func TestHoldReplaceIsOneMoment(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	a, b := sh.fan(), sh.fan()
	first := a.holds(0, 1, 2, 3, 4, 5) // all that the session may have
	b.holds(10)
	a.hold(fmt.Sprintf(`{"seats":[5,10],"replace":%q}`, first.ID)).want(t, http.StatusConflict, "seats-taken")
	if again := into[Hold](t, sh.call(http.MethodGet, a.at("/holds/"+first.ID), a.header(), ""), http.StatusOK); len(again.Seats) != 6 {
		t.Fatalf("a failed replacement left %+v", again)
	}
	second := into[Hold](t, a.hold(fmt.Sprintf(`{"seats":[5,6],"replace":%q}`, first.ID)), http.StatusCreated)
	sh.call(http.MethodGet, a.at("/holds/"+first.ID), a.header(), "").want(t, http.StatusGone, "hold-expired")
	want := make([]byte, 40)
	want[5], want[6], want[10] = unitHeld, unitHeld, unitHeld
	if got := states(t, a.availability()); !slices.Equal(got, want) {
		t.Errorf("seats %v, want %v", got, want)
	}
	b.hold(fmt.Sprintf(`{"seats":[7],"replace":%q}`, second.ID)).want(t, http.StatusUnprocessableEntity, "invalid")
	a.holds(0, 1, 2, 3)
	a.hold(`{"seats":[7]}`).want(t, http.StatusConflict, "hold-limit")
}

func TestHoldBestAndAreas(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	best := func(body string) Hold {
		t.Helper()
		return into[Hold](t, sh.fan().hold(`{"best":`+body+`}`), http.StatusCreated)
	}
	if h := best(`{"quantity":2}`); !slices.Equal(h.Seats, []int{9, 10}) && !slices.Equal(h.Seats, []int{8, 9}) {
		t.Errorf("the best two are %v", h.Seats)
	}
	if h := best(`{"quantity":3,"max_price":2000}`); h.Seats[0] < 20 || h.Total.Amount != 6000 || h.Seats[2] != h.Seats[0]+2 {
		t.Errorf("the best cheap three are %+v", h)
	}
	if h := best(`{"quantity":4,"category":"Dear","adjacent":true}`); h.Seats[3] != h.Seats[0]+3 || h.Seats[3] >= 20 {
		t.Errorf("the best dear four are %v", h.Seats)
	}
	// Row A has at most 9 or so together on each side: nobody may have more than 6 anyhow.
	var floor Hold
	for range 5 {
		floor = into[Hold](t, sh.fan().hold(fmt.Sprintf(`{"seats":[],"areas":[{"id":%q,"quantity":6}]}`, shopArea)), http.StatusCreated)
	}
	if floor.Total.Amount != 9000 || len(floor.Areas) != 1 || floor.Areas[0].Quantity != 6 || len(floor.Seats) != 0 {
		t.Errorf("the last of the floor is %+v", floor)
	}
	f := sh.fan()
	f.hold(fmt.Sprintf(`{"seats":[0],"areas":[{"id":%q,"quantity":1}]}`, shopArea)).want(t, http.StatusConflict, "seats-taken")
	if snap := f.availability(); snap.Areas[0].Free != 0 || states(t, snap)[0] != unitFree {
		t.Errorf("after a sold-out floor: %+v", snap)
	}
}

// TestHoldStorm: 200 fans at two servers want two seats each of a row.
func TestHoldStorm(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	_, second := sh.serve()
	var mu sync.Mutex
	owner := map[int]string{}
	refused := 0
	storm(200, func(i int) {
		f := sh.fanAt([]string{sh.base, second}[i%2])
		first := rand.IntN(19)
		a := f.hold(fmt.Sprintf(`{"seats":[%d,%d]}`, first+1, first))
		mu.Lock()
		defer mu.Unlock()
		if a.status == http.StatusConflict && a.code() == "seats-taken" {
			refused++
			return
		}
		for _, seat := range into[Hold](t, a, http.StatusCreated).Seats {
			if owner[seat] != "" {
				t.Errorf("seat %d is held twice", seat)
			}
			owner[seat] = f.session
		}
	})
	got := states(t, sh.fan().availability())
	for seat, state := range got {
		if (owner[seat] != "") != (state == unitHeld) {
			t.Errorf("seat %d is %d on the map, held by %q", seat, state, owner[seat])
		}
	}
	if refused == 0 || len(owner) < 12 {
		t.Errorf("%d refused, %d seats held", refused, len(owner))
	}
}

// TestBestStorm: nobody is told "taken" while the seats are free, and two neighbours are
// found until no two are left.
func TestBestStorm(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	var mu sync.Mutex
	seats := map[int]bool{}
	best := func(want string) {
		a := sh.fan().hold(`{"best":` + want + `}`)
		if a.status == http.StatusConflict {
			return
		}
		h := into[Hold](t, a, http.StatusCreated)
		mu.Lock()
		defer mu.Unlock()
		for _, seat := range h.Seats {
			if seats[seat] {
				t.Errorf("seat %d twice", seat)
			}
			seats[seat] = true
		}
	}
	storm(30, func(int) { best(`{"quantity":2}`) })
	for seat := range 40 {
		if seat%20 != 19 && !seats[seat] && !seats[seat+1] {
			t.Errorf("seats %d and %d stayed free", seat, seat+1)
		}
	}
	storm(20, func(int) { best(`{"quantity":1,"adjacent":false}`) })
	if len(seats) != 40 {
		t.Errorf("%d of 40 seats held", len(seats))
	}
	sh.fan().hold(`{"best":{"quantity":1}}`).want(t, http.StatusConflict, "seats-taken")
}

func TestHoldEndsByItself(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.s.sales.holdTime = 30 * time.Millisecond
	a, b := sh.fan(), sh.fan()
	h := a.holds(0, 1)
	eventually(t, "the seats are free again", func() bool { return states(t, b.availability())[0] == unitFree })
	sh.call(http.MethodGet, a.at("/holds/"+h.ID), a.header(), "").want(t, http.StatusGone, "hold-expired")
	a.order("late", orderBody(h.ID)).want(t, http.StatusGone, "hold-expired")
	sh.s.sales.holdTime = holdTime
	b.holds(0, 1)
}

func TestForgottenHoldIsHonoured(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	a, b := sh.fan(), sh.fan()
	first, second := a.holds(0, 1), b.holds(2)
	sh.forget(first.ID, second.ID)
	into[Hold](t, sh.call(http.MethodGet, a.at("/holds/"+first.ID), a.header(), ""), http.StatusOK)
	if got := states(t, b.availability()); got[0] != unitHeld || got[2] != unitFree {
		t.Errorf("after a forgotten hold came back: %v", got)
	}
	sh.fan().holds(2) // was faster than the forgotten hold
	b.order("k", orderBody(second.ID)).want(t, http.StatusConflict, "seats-taken")
	into[Order](t, a.order("k", orderBody(first.ID)), http.StatusCreated)
}

func TestHoldNeverOutlivesItsPass(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	ends := time.Now().Add(90 * time.Second)
	token, err := pass.Issue(sh.ring, shopRoom, f.session, time.Now(), ends)
	if err != nil {
		t.Fatal(err)
	}
	f.pass = token
	if h := f.holds(0); h.ExpiresAt.After(ends) {
		t.Errorf("hold until %v with a pass until %v", h.ExpiresAt, ends)
	}
	sh.ahead.Store(int64(61 * time.Minute))
	f.hold(`{"seats":[1]}`).want(t, http.StatusForbidden, "pass-required")
}

func FuzzHoldID(f *testing.F) {
	ring := keyring.Generate(time.Now())
	good := sealHold(ring, heldSeats{
		Event: uuid.New(), Performance: uuid.New(), ID: uuid.Must(uuid.NewV7()), Layout: 300, Session: "s", Units: []int{0, 7, 9000}, Ends: time.UnixMilli(1_800_000_000_123).UTC(),
	})
	f.Add(good)
	f.Add("")
	f.Add("..")
	f.Add(good[:len(good)-1])
	f.Add(strings.ToUpper(good))
	f.Fuzz(func(t *testing.T, id string) {
		h, err := openHold(ring, id)
		if err == nil && (id != good || !slices.Equal(h.Units, []int{0, 7, 9000}) || h.Session != "s" || h.Layout != 300) {
			t.Errorf("forged %q", id)
		}
		if id == good && err != nil {
			t.Error(err)
		}
	})
}
