package booking

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/piglig/go-qr"

	"usher/internal/problem"
)

// ticketRecord is a row of tickets.
type ticketRecord struct {
	Event, Order, ID uuid.UUID
	Unit             int
	Code             string
	Void             bool
	UsedAt           *time.Time
	UsedWhere        *string
}

// codeText is Crockford's base32: no letters that people mistake for others, and a QR
// code needs few modules for capitals and digits.
var codeText = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

const codeSecret = 14 // random bytes of a code

// newCode makes a ticket's code: the event's id, so that a gate finds the ticket's shard,
// and 112 bits that nobody can guess.
func newCode(event uuid.UUID) string {
	raw := append([]byte(nil), event[:]...)
	secret := make([]byte, codeSecret)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	return codeText.EncodeToString(append(raw, secret...))
}

// eventOfCode reads the event from a code as people type it.
func eventOfCode(code string) (event uuid.UUID, canonical string, ok bool) {
	canonical = strings.NewReplacer(" ", "", "-", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(code))
	raw, err := codeText.DecodeString(canonical)
	if err != nil || len(raw) != len(event)+codeSecret || codeText.EncodeToString(raw) != canonical {
		return uuid.UUID{}, "", false
	}
	return uuid.UUID(raw[:len(event)]), canonical, true
}

// issueTickets makes one ticket a seat, in the transaction that makes the order paid.
func issueTickets(ctx context.Context, tx pgx.Tx, o orderRecord) error {
	ids := make([]uuid.UUID, len(o.Seats))
	codes := make([]string, len(o.Seats))
	for i := range o.Seats {
		ids[i], codes[i] = uuid.Must(uuid.NewV7()), newCode(o.Event)
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO tickets (event_id, order_id, seat_index, performance_id, ticket_id, code, void)
		SELECT $1, $2, t.seat, $3, t.id, t.code, false FROM unnest($4::integer[], $5::uuid[], $6::text[]) AS t (seat, id, code)`,
		o.Event, o.ID, o.Performance, o.Seats, ids, codes)
	if err != nil {
		return fmt.Errorf("issue tickets: %w", err)
	}
	return nil
}

// tickets of an order, by seat. Each is probed by its whole key: by the order alone, the
// planner of an event that the statistics do not know may read all of the event's.
func (s *Server) tickets(ctx context.Context, o orderRecord) ([]ticketRecord, error) {
	b := &pgx.Batch{}
	for _, seat := range o.Seats {
		b.Queue(`
			SELECT ticket_id, seat_index, code, void, used_at, used_where FROM tickets
			WHERE event_id = $1 AND order_id = $2 AND seat_index = $3`, o.Event, o.ID, seat)
	}
	results := s.db.SendBatch(ctx, b)
	tickets := make([]ticketRecord, 0, len(o.Seats))
	for range o.Seats {
		t := ticketRecord{Event: o.Event, Order: o.ID}
		err := results.QueryRow().Scan(&t.ID, &t.Unit, &t.Code, &t.Void, &t.UsedAt, &t.UsedWhere)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read tickets: %w", err), results.Close())
		}
		tickets = append(tickets, t)
	}
	if err := results.Close(); err != nil {
		return nil, fmt.Errorf("read tickets: %w", err)
	}
	return tickets, nil
}

// quietZone is the margin that readers need around a QR code, in modules (ISO/IEC 18004).
const quietZone = 4

// qrModules is the code as rows of dark modules, with its quiet zone.
func qrModules(code string) ([][]bool, error) {
	drawn, err := go_qr.EncodeText(code, go_qr.Medium)
	if err != nil {
		return nil, fmt.Errorf("draw QR code: %w", err)
	}
	n := drawn.Size()
	rows := make([][]bool, n+2*quietZone)
	for y := range rows {
		rows[y] = make([]bool, n+2*quietZone)
	}
	for y := range n {
		for x := range n {
			rows[y+quietZone][x+quietZone] = drawn.Module(x, y)
		}
	}
	return rows, nil
}

// qrSVG draws a ticket's code; one unit is one module.
func qrSVG(code string) ([]byte, error) {
	rows, err := qrModules(code)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	n := len(rows)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, n, n, 6*n, 6*n, n, n)
	for y, row := range rows {
		for x := 0; x < n; x++ {
			from := x
			for x < n && row[x] {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes(), nil
}

// qrPNG draws a ticket's code with scale pixels a module.
func qrPNG(code string, scale int) ([]byte, error) {
	rows, err := qrModules(code)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := pictures.Encode(&b, enlarge(rows, scale)); err != nil {
		return nil, fmt.Errorf("encode QR code: %w", err)
	}
	return b.Bytes(), nil
}

// pictures encodes in memory that is used again: of its own, each picture would take a megabyte and a millisecond.
var pictures = png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: pictureSpace{}}

type pictureSpace struct{}

var pictureSpaces = sync.Pool{New: func() any { return new(png.EncoderBuffer) }}

func (pictureSpace) Get() *png.EncoderBuffer  { return pictureSpaces.Get().(*png.EncoderBuffer) }
func (pictureSpace) Put(b *png.EncoderBuffer) { pictureSpaces.Put(b) }

func enlarge(rows [][]bool, scale int) image.Image {
	n := len(rows) * scale
	img := image.NewPaletted(image.Rect(0, 0, n, n), color.Palette{color.White, color.Black})
	for y := range n {
		line := img.Pix[y*img.Stride:][:n]
		if y%scale > 0 {
			copy(line, img.Pix[(y-1)*img.Stride:])
			continue
		}
		for x := range line {
			if rows[y/scale][x/scale] {
				line[x] = 1
			}
		}
	}
	return img
}

func ticketNotFound() *problem.Problem {
	return problem.New(http.StatusNotFound, "ticket-not-found", "There is no such ticket.")
}

// ticketPicture is the QR code of one ticket of an order, as file (qr.svg or qr.png).
func (s *Server) ticketPicture(ctx context.Context, o orderRecord, id, file string) (picture []byte, mediaType string, err error) {
	tickets, err := s.tickets(ctx, o)
	if err != nil {
		return nil, "", err
	}
	for _, t := range tickets {
		if t.ID.String() != id || t.Void {
			continue
		}
		switch file {
		case "qr.svg":
			picture, err = qrSVG(t.Code)
			return picture, "image/svg+xml", err
		case "qr.png":
			picture, err = qrPNG(t.Code, 8)
			return picture, "image/png", err
		}
	}
	return nil, "", ticketNotFound()
}
