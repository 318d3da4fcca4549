package booking

import "fmt"

// rawArea is an area as the editor exports it; which size it has depends on Shape.
type rawArea struct {
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	Shape       string    `json:"shape"`
	Color       string    `json:"color"`
	BorderColor string    `json:"border_color"`
	Rotation    float64   `json:"rotation"`
	Position    *rawPoint `json:"position"`
	Text        *struct {
		Text     string    `json:"text"`
		Color    string    `json:"color"`
		Position *rawPoint `json:"position"`
	} `json:"text"`
	Rectangle *struct {
		Width  float64 `json:"width"`
		Height float64 `json:"height"`
	} `json:"rectangle"`
	Circle *struct {
		Radius float64 `json:"radius"`
	} `json:"circle"`
	Ellipse *struct {
		Radius rawPoint `json:"radius"`
	} `json:"ellipse"`
	Polygon *struct {
		Points []rawPoint `json:"points"`
	} `json:"polygon"`
}

func (r *planReader) area(at string, zone int) error {
	if len(r.plan.Areas) == maxAreas {
		return r.stop(at, "more than %d areas", maxAreas)
	}
	var a rawArea
	if ok, err := r.decode(at, &a); !ok {
		return err
	}
	if r.text(at+".uuid", a.UUID, 1, 64) {
		if r.areaIDs[a.UUID] {
			r.fault(at+".uuid", "is the uuid of another area too")
		}
		r.areaIDs[a.UUID] = true
	}
	r.color(at+".color", a.Color)
	r.color(at+".border_color", a.BorderColor)
	r.within(at+".rotation", a.Rotation)
	shape := Shape{Type: a.Shape, Rotation: a.Rotation, Color: a.Color, BorderColor: a.BorderColor}
	var p Point
	r.point(at+".position", a.Position, &p)
	shape.X, shape.Y = p.X, p.Y
	if a.Text != nil && a.Text.Text != "" {
		text := &Text{Text: a.Text.Text, Color: a.Text.Color}
		r.text(at+".text.text", text.Text, 0, 200)
		r.color(at+".text.color", text.Color)
		if a.Text.Position != nil {
			r.point(at+".text.position", a.Text.Position, &p)
			text.X, text.Y = p.X, p.Y
		}
		shape.Text = text
		if a.Name == "" {
			a.Name = text.Text
		}
	}
	r.text(at+".name", a.Name, 0, 200)
	r.measure(at, a, &shape)
	r.plan.Areas = append(r.plan.Areas, PlanArea{ID: a.UUID, Name: a.Name, Shape: shape})
	r.areaZones = append(r.areaZones, zone)
	return nil
}

// measure takes over the sizes that the kind of shape needs.
func (r *planReader) measure(at string, a rawArea, shape *Shape) {
	switch {
	case a.Shape == "rectangle" && a.Rectangle != nil:
		shape.Width, shape.Height = a.Rectangle.Width, a.Rectangle.Height
		r.within(at+".rectangle.width", shape.Width)
		r.within(at+".rectangle.height", shape.Height)
	case a.Shape == "circle" && a.Circle != nil:
		shape.Radius = a.Circle.Radius
		r.within(at+".circle.radius", shape.Radius)
	case a.Shape == "ellipse" && a.Ellipse != nil:
		var radius Point
		r.point(at+".ellipse.radius", &a.Ellipse.Radius, &radius)
		shape.RX, shape.RY = radius.X, radius.Y
	case a.Shape == "polygon" && a.Polygon != nil:
		if len(a.Polygon.Points) > maxPoints {
			r.fault(at+".polygon.points", "more than %d points", maxPoints)
			return
		}
		for i := range a.Polygon.Points {
			var p Point
			r.point(fmt.Sprintf("%s.polygon.points[%d]", at, i), &a.Polygon.Points[i], &p)
			shape.Points = append(shape.Points, p)
		}
	case a.Shape == "text":
	case a.Shape == "rectangle", a.Shape == "circle", a.Shape == "ellipse", a.Shape == "polygon":
		r.fault(at+"."+a.Shape, "is required for this shape")
	default:
		r.fault(at+".shape", "must be rectangle, circle, ellipse, polygon or text")
	}
}
