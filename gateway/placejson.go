package gateway

import (
	"encoding/json"
	"strconv"
	"time"

	"usher/queue"
)

// timeField begins what is left of a document when all has been said.
var timeField = []byte(`,"now":`)

// appendPlace writes p as encoding/json would, at a tenth of the cost: it is
// written for every join, poll and pushed position.
func appendPlace(b []byte, p *queue.Place) []byte {
	// A room is a slug; epoch, phase and state are words of ours: nothing to escape.
	b = append(append(append(b, `{"room":"`...), p.Room...), `","epoch":"`...)
	b = append(append(b, p.Epoch...), `","number":`...)
	b = strconv.AppendUint(b, p.Number, 10)
	b = append(append(append(b, `,"phase":"`...), p.Phase...), `","state":"`...)
	b = append(append(b, p.State...), `","rank":`...)
	b = appendUint(b, p.Rank)
	b = appendUint(append(b, `,"position":`...), p.Position)
	b = appendUint(append(b, `,"ahead":`...), p.Ahead)
	b = strconv.AppendUint(append(b, `,"waiting":`...), p.Waiting, 10)
	b = strconv.AppendFloat(append(b, `,"progress":`...), p.Progress, 'f', -1, 64)
	b = append(b, `,"eta_s":`...)
	if p.ETA == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(append(b, `{"low":`...), int64(p.ETA.Low), 10)
		b = append(strconv.AppendInt(append(b, `,"high":`...), int64(p.ETA.High), 10), '}')
	}
	b = append(b, `,"eta_reason":`...)
	if p.ETAReason == nil {
		b = append(b, "null"...)
	} else {
		b = append(append(append(b, '"'), *p.ETAReason...), '"') // a word of ours
	}
	b = appendTime(append(b, `,"call_expires_at":`...), p.CallExpiresAt)
	b = strconv.AppendBool(append(b, `,"call_extendable":`...), p.CallExtendable)
	b = appendTime(append(b, `,"pass_expires_at":`...), p.PassExpiresAt)
	b = append(b, `,"message":`...)
	if p.Message == nil {
		b = append(b, "null"...)
	} else {
		text, err := json.Marshal(*p.Message)
		if err != nil {
			panic(err) // every string has a form in JSON
		}
		b = append(b, text...)
	}
	b = appendTime(append(b, `,"joined_at":`...), &p.JoinedAt)
	b = appendTime(append(b, `,"lobby_at":`...), p.LobbyAt)
	b = appendTime(append(b, `,"opens_at":`...), p.OpensAt)
	b = appendTime(append(b, timeField...), &p.Now) // last: see digestOf
	return append(b, '}')
}

func appendUint(b []byte, n *uint64) []byte {
	if n == nil {
		return append(b, "null"...)
	}
	return strconv.AppendUint(b, *n, 10)
}

func appendTime(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}
