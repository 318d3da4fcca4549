package problem

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/humatest"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	w.Header().Set(RequestIDHeader, "req-1")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	Write(w, r, New(http.StatusConflict, "seats-taken", "Gone.").With("taken", []int{3, 4}).In(1500*time.Millisecond))

	if w.Code != http.StatusConflict || w.Header().Get("Content-Type") != ContentType || w.Header().Get("Retry-After") != "2" {
		t.Fatalf("status %d, headers %v", w.Code, w.Header())
	}
	doc := decode(t, w.Body)
	want := map[string]any{"code": "seats-taken", "status": 409.0, "title": "Conflict", "detail": "Gone.", "request_id": "req-1", "type": "urn:usher:problem:seats-taken"}
	for k, v := range want {
		if doc[k] != v {
			t.Errorf("%s = %v, want %v", k, doc[k], v)
		}
	}
	if taken, _ := doc["taken"].([]any); len(taken) != 2 {
		t.Errorf("taken = %v", doc["taken"])
	}
}

type order struct {
	Body struct {
		Qty int `json:"qty" minimum:"1"`
	}
}

func TestHumaRefusesWithOurProblems(t *testing.T) {
	t.Parallel()
	_, api := humatest.New(t, HumaConfig("test"))
	huma.Register(api, huma.Operation{Method: http.MethodPost, Path: "/orders", MaxBodyBytes: 200}, func(_ context.Context, in *order) (*struct{}, error) {
		switch in.Body.Qty {
		case 7:
			return nil, errors.New("dial tcp 10.0.0.1: password authentication failed")
		case 8:
			return nil, New(http.StatusConflict, "seats-taken", "Gone.").In(time.Second)
		}
		return nil, nil
	})
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"negative":         {`{"qty":-4711}`, 422, "invalid"},
		"wrong type":       {`{"qty":"4711"}`, 422, "invalid"},
		"unknown field":    {`{"qty":1,"price":4711}`, 422, "invalid"},
		"casing":           {`{"qty":2,"QTY":4711}`, 422, "invalid"},
		"not JSON":         {`{"qty":4711`, 400, "bad-request"},
		"too long":         {`{"qty":1,"x":"` + strings.Repeat("4711", 100) + `"}`, 413, "body-too-large"},
		"a driver's error": {`{"qty":7}`, 500, "internal"},
		"a problem":        {`{"qty":8}`, 409, "seats-taken"},
	} {
		t.Run(name, func(t *testing.T) {
			w := api.Post("/orders", "Content-Type: application/json", strings.NewReader(c.body))
			body := w.Body.String()
			doc := decode(t, strings.NewReader(body))
			if w.Code != c.status || doc["code"] != c.code || w.Header().Get("Content-Type") != ContentType {
				t.Errorf("got %d %s %s", w.Code, w.Header().Get("Content-Type"), body)
			}
			if strings.Contains(body, "4711") || strings.Contains(body, "password") {
				t.Errorf("the document repeats input or a driver's words: %s", body)
			}
			if c.status == http.StatusConflict && w.Header().Get("Retry-After") != "1" {
				t.Error("Retry-After is missing")
			}
		})
	}
}

func TestLimitBody(t *testing.T) {
	t.Parallel()
	h := LimitBody(10, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			Write(w, r, fromHuma(http.StatusInternalServerError, "read body", []error{err}))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	for name, c := range map[string]struct {
		length int64
		body   string
		status int
	}{
		"exactly the limit": {10, "0123456789", http.StatusNoContent},
		"declared over":     {11, "01234567890", http.StatusRequestEntityTooLarge},
		"undeclared over":   {-1, "01234567890", http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
			r.ContentLength = c.length
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status {
				t.Errorf("got %d, want %d", w.Code, c.status)
			}
		})
	}
}

func TestRecoverHidesThePanic(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	h := Recover(slog.New(slog.NewTextHandler(&log, nil)), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom 4711") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "4711") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "boom 4711") {
		t.Error("the log does not say what happened")
	}
}

func decode(t *testing.T, r io.Reader) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.NewDecoder(r).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}
