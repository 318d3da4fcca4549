package booking

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"usher/internal/operator"
	"usher/internal/problem"
)

// OperateOrder is an order as operators see it.
type OperateOrder struct {
	ID          string    `json:"id"`
	Performance string    `json:"performance"`
	State       string    `json:"state" enum:"pending,paid,expired,cancelled,refunding,refunded"`
	Test        bool      `json:"test"`
	Buyer       Buyer     `json:"buyer"`
	Seats       []string  `json:"seats" doc:"where they are, in words"`
	Total       Money     `json:"total"`
	Paid        int64     `json:"paid"`
	Refunded    int64     `json:"refunded"`
	Provider    string    `json:"provider"`
	Payment     string    `json:"payment,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// OperateOrders is a page of orders, newest first.
type OperateOrders struct {
	Orders []OperateOrder `json:"orders"`
	Next   string         `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

// csvPage is how many orders are read at once for a CSV file.
const csvPage = 500

func (s *Server) registerOrderOperate() {
	huma.Register(s.api, operate(http.MethodGet, "/events/{event}/orders", "operate-orders",
		"Orders, newest first, as JSON pages or as one CSV file", operator.View, 404, 422), s.operateOrders)
	huma.Register(s.api, operate(http.MethodPost, "/events/{event}/orders/{order}/refund", "refund-order",
		"Give the money of a paid order back and its seats free", operator.Operate, 400, 404, 409, 422), s.operateRefund)
	huma.Register(s.api, operate(http.MethodGet, "/events/{event}/report", "report",
		"What was sold", operator.View, 404), s.operateReport)
}

func (s *Server) operateOrders(ctx context.Context, in *struct {
	Event  string `path:"event" maxLength:"40"`
	Search string `query:"q" maxLength:"200" doc:"part of the buyer's address or name, or an order's id"`
	State  string `query:"state" enum:"pending,paid,expired,cancelled,refunding,refunded"`
	Cursor string `query:"cursor" maxLength:"36"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Format string `query:"format" enum:"json,csv" default:"json"`
}) (*huma.StreamResponse, error) {
	e, err := s.event(ctx, in.Event)
	if err != nil {
		return nil, s.fail(ctx, "list orders", err)
	}
	wanted := orderSearch{Event: e.ID, Text: strings.ToLower(strings.TrimSpace(in.Search)), State: in.State, Limit: in.Limit}
	if in.Cursor != "" {
		if wanted.Before, err = uuid.Parse(in.Cursor); err != nil {
			return nil, problem.Invalid(problem.Field{Location: "query.cursor", Message: "not a cursor of this list"})
		}
	}
	if in.Format == "csv" {
		wanted.Limit = csvPage
	}
	page, err := s.searchOrders(ctx, e, wanted)
	if err != nil {
		return nil, s.fail(ctx, "list orders", err)
	}
	return &huma.StreamResponse{Body: func(out huma.Context) {
		out.SetHeader("Cache-Control", noStore)
		if in.Format == "csv" {
			s.writeOrdersCSV(out, e, wanted, page)
			return
		}
		out.SetHeader("Content-Type", "application/json")
		_ = json.NewEncoder(out.BodyWriter()).Encode(page) // the operator may be gone
	}}, nil
}

// writeOrdersCSV sends page and all that follow it.
func (s *Server) writeOrdersCSV(out huma.Context, e *eventRecord, wanted orderSearch, page OperateOrders) {
	ctx := out.Context()
	out.SetHeader("Content-Type", "text/csv; charset=utf-8")
	out.SetHeader("Content-Disposition", `attachment; filename="`+e.Slug+`-orders.csv"`)
	w := csv.NewWriter(out.BodyWriter())
	write := func(cells ...string) error {
		for i := range cells {
			cells[i] = inert(cells[i])
		}
		return w.Write(cells)
	}
	err := write("id", "state", "test", "performance", "name", "email", "phone", "seats", "total", "paid", "refunded", "currency", "provider", "payment", "created_at")
	for err == nil {
		for _, o := range page.Orders {
			err = write(o.ID, o.State, strconv.FormatBool(o.Test), o.Performance, o.Buyer.Name, o.Buyer.Email, o.Buyer.Phone, strings.Join(o.Seats, "; "),
				strconv.FormatInt(o.Total.Amount, 10), strconv.FormatInt(o.Paid, 10), strconv.FormatInt(o.Refunded, 10), o.Total.Currency,
				o.Provider, o.Payment, o.CreatedAt.Format(time.RFC3339))
			if err != nil {
				return // the operator is gone
			}
		}
		w.Flush()
		if page.Next == "" || w.Error() != nil {
			return
		}
		wanted.Before = uuid.MustParse(page.Next) // our own
		page, err = s.searchOrders(ctx, e, wanted)
	}
	// The status is sent: only a broken connection tells that the file is not whole.
	s.log.ErrorContext(ctx, "export orders", "error", err)
	panic(http.ErrAbortHandler)
}

// inert keeps a spreadsheet from taking what a buyer typed for a formula.
func inert(cell string) string {
	if first, _ := utf8.DecodeRuneInString(cell); cell != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) {
		return "'" + cell
	}
	return cell
}

type operateOrderAnswer struct {
	Body OperateOrder
}

func (s *Server) operateRefund(ctx context.Context, in *struct {
	Event string `path:"event" maxLength:"40"`
	Order string `path:"order" maxLength:"36"`
	Key   string `header:"Idempotency-Key" doc:"required"`
}) (*operateOrderAnswer, error) {
	if err := checkKey(in.Key); err != nil {
		return nil, err
	}
	e, err := s.event(ctx, in.Event)
	if err != nil {
		return nil, s.fail(ctx, "refund order", err)
	}
	id, err := uuid.Parse(in.Order)
	if err != nil {
		return nil, orderNotFound()
	}
	doc, err := s.refundPaid(ctx, e, id, in.Key)
	if err != nil {
		return nil, s.fail(ctx, "refund order", err)
	}
	return &operateOrderAnswer{doc}, nil
}

func (s *Server) operateReport(ctx context.Context, in *struct {
	Event string `path:"event" maxLength:"40"`
}) (*struct{ Body Report }, error) {
	e, err := s.event(ctx, in.Event)
	if err != nil {
		return nil, s.fail(ctx, "report", err)
	}
	r, err := s.report(ctx, e)
	if err != nil {
		return nil, s.fail(ctx, "report", err)
	}
	return &struct{ Body Report }{r}, nil
}
