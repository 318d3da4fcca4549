package queue

import (
	"encoding/json"
	"weak"
)

// document is the room's public document as it was at one tick, in JSON. It keeps nothing
// of the View: the bits of a long line are large.
type document struct {
	of   weak.Pointer[View]
	json []byte
}

// Document is the View's public document in JSON, written once a tick for all who ask. The
// caller must not change it.
func (l *Line) Document() []byte {
	v := l.View()
	of := weak.Make(v)
	if d := l.document.Load(); d != nil && d.of == of {
		return d.json
	}
	text, err := json.Marshal(v.Room())
	if err != nil {
		panic(err) // a document of ours holds only what JSON can
	}
	l.document.Store(&document{of, text})
	return text
}
