package booking

// SeatingPlan is a plan as the public sees it: seats[i].index is i, seats' row and zone
// are indexes of rows and zones, positions are on the plan.
type SeatingPlan struct {
	Name        string             `json:"name"`
	Size        PlanSize           `json:"size"`
	Categories  []PlanCategory     `json:"categories"`
	Zones       []PlanZone         `json:"zones"`
	Rows        []PlanRow          `json:"rows"`
	Seats       []PlanSeat         `json:"seats"`
	Areas       []PlanStandingArea `json:"areas" doc:"on sale"`
	Decorations []PlanDecoration   `json:"decorations" doc:"the stage and other drawings"`
}

// PlanSize is the extent of a plan's positions.
type PlanSize struct {
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

// PlanCategory is a category's name and colour.
type PlanCategory struct {
	Name  string `json:"name"`
	Color string `json:"color"`
}

// PlanZone is a part of the hall.
type PlanZone struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

// PlanRow is a row of seats.
type PlanRow struct {
	ID    int    `json:"id"`
	Label string `json:"label"`
	Zone  int    `json:"zone"`
}

// PlanSeat is a numbered seat.
type PlanSeat struct {
	Index      int     `json:"index"`
	Label      string  `json:"label" doc:"the seat's number within its row"`
	Row        int     `json:"row"`
	Zone       int     `json:"zone"`
	X          float64 `json:"x"`
	Y          float64 `json:"y"`
	Category   string  `json:"category"`
	Accessible bool    `json:"accessible"`
}

// PlanStandingArea is an area on sale.
type PlanStandingArea struct {
	EventArea
	Shape Shape `json:"shape"`
}

// PlanDecoration is an area that is not sold.
type PlanDecoration struct {
	Name  string `json:"name"`
	Shape Shape  `json:"shape"`
}

// drawPlan renders p with the areas that an event sells.
func drawPlan(p *Plan, onSale []areaRecord) SeatingPlan {
	doc := SeatingPlan{
		Name: p.Name, Size: PlanSize{p.Width, p.Height},
		Categories: make([]PlanCategory, len(p.Categories)), Zones: make([]PlanZone, len(p.Zones)),
		Rows: make([]PlanRow, len(p.Rows)), Seats: make([]PlanSeat, len(p.Seats)),
		Areas: []PlanStandingArea{}, Decorations: []PlanDecoration{},
	}
	for i, c := range p.Categories {
		doc.Categories[i] = PlanCategory{c.Name, c.Color}
	}
	for i, name := range p.Zones {
		doc.Zones[i] = PlanZone{i, name}
	}
	for i, r := range p.Rows {
		doc.Rows[i] = PlanRow{i, r.Label, r.Zone}
	}
	for i, s := range p.Seats {
		doc.Seats[i] = PlanSeat{
			Index: i, Label: s.Label, Row: s.Row, Zone: p.Rows[s.Row].Zone, X: s.X, Y: s.Y,
			Category: p.Categories[s.Category].Name, Accessible: s.Accessible,
		}
	}
	sold := map[string]bool{}
	for _, a := range onSale { // in the order of their indexes, as availability lists them
		sold[a.UUID] = true
		for _, drawn := range p.Areas {
			if drawn.ID == a.UUID {
				doc.Areas = append(doc.Areas, PlanStandingArea{EventArea{a.UUID, a.Name, a.Category, a.Capacity}, drawn.Shape})
			}
		}
	}
	for _, a := range p.Areas {
		if !sold[a.ID] {
			doc.Decorations = append(doc.Decorations, PlanDecoration{a.Name, a.Shape})
		}
	}
	return doc
}
