package queue

import (
	"errors"
	"time"
)

// What a visitor may be told. None of them is a fault of ours.
var (
	ErrNotOpen   = errors.New("the room is not open yet")
	ErrClosed    = errors.New("the room is closed")
	ErrNotCalled = errors.New("the place is not called")
	ErrExtended  = errors.New("the call was extended before")
	ErrMoved     = errors.New("another device has the place")
	ErrLapsed    = errors.New("the place has lapsed")
)

// Unavailable says that the room cannot answer now: Redis is away, or no number is
// free below the ceiling. The place of whoever has one is safe.
type Unavailable struct {
	RetryAfter time.Duration
	// Cause is for the log; nil when nothing failed.
	Cause error
}

func (e *Unavailable) Error() string {
	if e.Cause == nil {
		return "the room cannot answer now"
	}
	return "the room cannot answer now: " + e.Cause.Error()
}

func (e *Unavailable) Unwrap() error { return e.Cause }
