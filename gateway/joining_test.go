package gateway

import (
	"encoding/json"
	"testing"

	"usher/queue"
)

func TestResumeOnAnotherDevice(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"pace_per_min":0}`)
	laptop, phone := s.visitor(), s.visitor()
	const room = "/api/v1/rooms/gala"
	laptop.want(404, "no-place", "POST", room+"/place/resume-code", "")
	first := laptop.join("gala")
	code := decode[resumeCode](t, laptop.do("POST", room+"/place/resume-code", ""))
	body, err := json.Marshal(map[string]string{"resume": code.Code})
	if err != nil {
		t.Fatal(err)
	}
	phone.want(403, "resume-invalid", "POST", room+"/places", `{"resume":"r1.x.y.z"}`)
	phone.want(403, "origin-refused", "POST", room+"/places", string(body), "Sec-Fetch-Site", "cross-site")
	moved := decode[joined](t, phone.want(200, "", "POST", room+"/places", string(body)))
	if moved.Number != first.Number || moved.Token == first.Token {
		t.Errorf("number %d moved to %d", first.Number, moved.Number)
	}
	phone.want(410, "place-moved", "POST", room+"/places", string(body))
	here := decode[queue.Place](t, phone.want(200, "", "GET", room+"/place", ""))
	until(t, line, "the gateway knows of it", func() bool {
		return laptop.do("GET", room+"/place", "").code() == "place-moved"
	})
	if here.Number != first.Number {
		t.Errorf("the phone has number %d", here.Number)
	}
	laptop.want(410, "place-moved", "POST", room+"/pass", "")
	laptop.want(410, "place-moved", "POST", room+"/place/extend", "")
	laptop.want(410, "place-moved", "POST", room+"/places", "") // and forgets it
	if next := laptop.join("gala"); next.Number <= first.Number {
		t.Errorf("the laptop got number %d again", next.Number)
	}
}
