// The seat map on one canvas. Zoomed out it is an overview of sections; close
// enough to hit, seats can be chosen. It only draws and reports: what is chosen
// and what is free is its owner's.
import { select } from "d3-selection";
import "d3-transition";
import { zoom, zoomIdentity, type ZoomBehavior, type ZoomTransform } from "d3-zoom";
import type { Layout, Shape } from "./plan";
import { Free, Held } from "./stock";

export interface MapEvents {
  seat(index: number): void;
  zone(zone: number): void;
  area(id: string): void;
  /** What the pointer is over, at canvas coordinates; null when over nothing. */
  over(target: { seat?: number; zone?: number; area?: string } | null, x: number, y: number): void;
}

/** A seat of this many pixels across its radius can be hit. */
const hittable = { fine: 4, coarse: 7 };
const comfortable = 13;

export class SeatMap {
  private readonly context: CanvasRenderingContext2D;
  private readonly zooming: ZoomBehavior<HTMLCanvasElement, unknown>;
  private transform: ZoomTransform = zoomIdentity;
  private width = 0;
  private height = 0;
  private frame = 0;
  private touched = false;
  private picked: ReadonlySet<number> = new Set();
  private only: number | null = null;
  private readonly resized: ResizeObserver;
  private readonly scheme = matchMedia("(prefers-color-scheme: dark)");
  private colours!: { seats: string[]; line: string; sheet: string; ink: string; quiet: string; go: string; goInk: string; wash: string };

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly layout: Layout,
    private readonly states: Uint8Array,
    private readonly events: MapEvents,
  ) {
    this.context = canvas.getContext("2d")!;
    this.zooming = zoom<HTMLCanvasElement, unknown>()
      .clickDistance(6)
      .on("zoom", (event) => {
        this.transform = event.transform;
        if (event.sourceEvent) this.touched = true;
        this.events.over(null, 0, 0);
        this.redraw();
      });
    select(canvas).call(this.zooming).on("dblclick.zoom", null);
    canvas.addEventListener("click", (event) => this.click(event));
    canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.hover(event));
    canvas.addEventListener("pointerleave", () => this.events.over(null, 0, 0));
    this.scheme.addEventListener("change", this.recolour);
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(canvas);
    this.recolour();
  }

  destroy() {
    this.resized.disconnect();
    this.scheme.removeEventListener("change", this.recolour);
    cancelAnimationFrame(this.frame);
    select(this.canvas).on(".zoom", null);
  }

  /** Draws again with the next frame: after the states or the choice changed. */
  redraw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  choose(picked: ReadonlySet<number>) {
    this.picked = picked;
    this.redraw();
  }

  /** Dims every other category; null shows all. */
  showOnly(category: number | null) {
    this.only = category;
    this.redraw();
  }

  zoomBy(factor: number) {
    this.touched = true;
    this.moved().call(this.zooming.scaleBy, factor);
  }

  fit() {
    this.touched = false;
    this.moved().call(this.zooming.transform, this.whole());
  }

  lookAtZone(zone: number) {
    const { x, y, width, height } = this.layout.zones[zone]!;
    this.lookAt(x, y, width, height);
  }

  lookAtSeats(seats: number[]) {
    if (seats.length === 0) return;
    const xs = seats.map((i) => this.layout.x[i]!);
    const ys = seats.map((i) => this.layout.y[i]!);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.lookAt((left + right) / 2, (top + bottom) / 2, right - left, bottom - top);
  }

  private lookAt(x: number, y: number, width: number, height: number) {
    this.touched = true;
    const room = this.layout.radius * 4;
    const fitting = Math.min(this.width / (width + room), this.height / (height + room));
    const k = Math.max(hittable.coarse / this.layout.radius, Math.min(fitting, (comfortable * 1.3) / this.layout.radius));
    this.moved().call(this.zooming.transform, zoomIdentity.translate(this.width / 2, this.height / 2).scale(k).translate(-x, -y));
  }

  private moved() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    return select(this.canvas).transition().duration(still ? 0 : 350);
  }

  private whole(): ZoomTransform {
    const { left, top, right, bottom } = this.layout.bounds;
    const room = this.layout.radius * 3;
    const k = Math.min(this.width / (right - left + 2 * room), this.height / (bottom - top + 2 * room));
    return zoomIdentity.translate(this.width / 2, this.height / 2).scale(k).translate(-(left + right) / 2, -(top + bottom) / 2);
  }

  private resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const density = devicePixelRatio || 1;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * density);
    this.canvas.height = Math.round(height * density);
    const { left, top, right, bottom } = this.layout.bounds;
    const whole = this.whole();
    const room = 60 / whole.k;
    this.zooming
      .extent([[0, 0], [width, height]])
      .scaleExtent([whole.k * 0.9, Math.max(whole.k * 2, 26 / this.layout.radius)])
      .translateExtent([[left - room, top - room], [right + room, bottom + room]]);
    if (!this.touched) select(this.canvas).call(this.zooming.transform, whole);
    this.draw();
  }

  private recolour = () => {
    const style = getComputedStyle(document.documentElement);
    const get = (name: string) => style.getPropertyValue(name).trim();
    const seats = Array.from({ length: categoryColours }, (_, i) => get(`--seat-${i}`));
    this.colours = { seats, line: get("--line"), sheet: get("--sheet"), ink: get("--ink"), quiet: get("--quiet"), go: get("--go"), goInk: get("--go-ink"), wash: get("--map") };
    this.redraw();
  };

  private get seatPixels() {
    return this.layout.radius * this.transform.k;
  }

  private click(event: MouseEvent) {
    const [px, py] = [event.offsetX, event.offsetY];
    const fine = matchMedia("(pointer: fine)").matches;
    const seat = this.seatAt(px, py);
    if (seat !== undefined) {
      if (this.seatPixels >= (fine ? hittable.fine : hittable.coarse)) return this.events.seat(seat);
      this.events.zone(this.layout.zone[seat]!);
      const [x, y] = this.transform.invert([px, py]);
      return this.lookAt(x, y, 0, 0);
    }
    const area = this.areaAt(px, py);
    if (area) return this.events.area(area);
    const zone = this.zoneAt(px, py);
    if (zone !== undefined) {
      this.events.zone(zone);
      this.lookAtZone(zone);
    }
  }

  private hover(event: PointerEvent) {
    const [px, py] = [event.offsetX, event.offsetY];
    const seat = this.seatPixels >= hittable.fine ? this.seatAt(px, py) : undefined;
    const area = seat === undefined ? this.areaAt(px, py) : undefined;
    const zone = seat === undefined && !area ? this.zoneAt(px, py) : undefined;
    this.canvas.classList.toggle("can", seat !== undefined || !!area || (zone !== undefined && this.seatPixels < hittable.fine));
    const target = seat !== undefined ? { seat } : area ? { area } : zone !== undefined && this.seatPixels < hittable.coarse ? { zone } : null;
    this.events.over(target, px, py);
  }

  private seatAt(px: number, py: number): number | undefined {
    if (!this.layout.index) return undefined;
    const [x, y] = this.transform.invert([px, py]);
    const reach = Math.max(this.layout.radius * 1.15, 10 / this.transform.k);
    return this.layout.index.neighbors(x, y, 1, reach)[0];
  }

  private areaAt(px: number, py: number): string | undefined {
    const [x, y] = this.transform.invert([px, py]);
    const path = (shape: Shape) => this.context.isPointInPath(shapePath(shape), x, y);
    this.context.save();
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    const found = this.layout.areas.find((area) => path(area.shape));
    this.context.restore();
    return found?.id;
  }

  private zoneAt(px: number, py: number): number | undefined {
    const [x, y] = this.transform.invert([px, py]);
    const found = this.layout.zones.findIndex((zone) => zone.hull.length > 2 && inside(zone.hull, x, y));
    return found < 0 ? undefined : found;
  }

  private draw() {
    const c = this.context;
    const { k, x: dx, y: dy } = this.transform;
    const density = devicePixelRatio || 1;
    c.setTransform(density, 0, 0, density, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    c.setTransform(density * k, 0, 0, density * k, density * dx, density * dy);
    this.drawZones(c);
    this.drawAreas(c, k);
    this.drawSeats(c);
    c.setTransform(density, 0, 0, density, 0, 0);
    this.drawWords(c);
  }

  private drawZones(c: CanvasRenderingContext2D) {
    c.fillStyle = c.strokeStyle = this.colours.wash;
    c.lineJoin = "round";
    c.lineWidth = this.layout.radius * 3;
    for (const { hull } of this.layout.zones) {
      if (hull.length === 0) continue;
      c.beginPath();
      hull.forEach((p, i) => (i ? c.lineTo(p[0]!, p[1]!) : c.moveTo(p[0]!, p[1]!)));
      c.closePath();
      c.stroke();
      c.fill();
    }
  }

  private drawAreas(c: CanvasRenderingContext2D, k: number) {
    c.lineWidth = 1.5 / k;
    for (const { shape } of this.layout.scenery) {
      c.fillStyle = this.colours.line;
      c.fill(shapePath(shape));
    }
    for (const area of this.layout.areas) {
      const path = shapePath(area.shape);
      const colour = this.colours.seats[area.category % categoryColours]!;
      c.globalAlpha = this.only !== null && this.only !== area.category ? 0.1 : 0.28;
      c.fillStyle = colour;
      c.fill(path);
      c.globalAlpha = 1;
      c.strokeStyle = colour;
      c.stroke(path);
    }
  }

  private drawSeats(c: CanvasRenderingContext2D) {
    const { layout, states, picked } = this;
    if (!layout.index) return;
    const r = layout.radius;
    const [left, top] = this.transform.invert([0, 0]);
    const [right, bottom] = this.transform.invert([this.width, this.height]);
    const seen = layout.index.search(left - r, top - r, right + r, bottom + r);
    const tiny = this.seatPixels < 2.5;
    const dot = (i: number, size: number) => {
      const [x, y] = [layout.x[i]!, layout.y[i]!];
      if (tiny) return c.rect(x - size, y - size, 2 * size, 2 * size);
      if (layout.accessible[i]) return c.roundRect(x - size, y - size, 2 * size, 2 * size, size / 3);
      c.moveTo(x + size, y);
      c.arc(x, y, size, 0, 2 * Math.PI);
    };
    // One path for each colour: a canvas pays by the path, not by the seat.
    const free = new Map<number, number[]>();
    const taken: number[] = [];
    const held: number[] = [];
    const mine: number[] = [];
    for (const i of seen) {
      if (picked.has(i)) mine.push(i);
      else if (states[i] === Free) {
        const category = layout.category[i]!;
        let list = free.get(category);
        if (!list) free.set(category, (list = []));
        list.push(i);
      } else if (states[i] === Held) held.push(i);
      else taken.push(i);
    }
    const fill = (seats: number[], size: number) => {
      c.beginPath();
      for (const i of seats) dot(i, size);
      c.fill();
    };
    c.fillStyle = this.colours.line;
    fill(taken, r * 0.5);
    c.fillStyle = this.colours.quiet;
    c.globalAlpha = 0.55;
    fill(held, r * 0.5);
    for (const [category, seats] of free) {
      c.globalAlpha = this.only !== null && this.only !== category ? 0.15 : 1;
      c.fillStyle = this.colours.seats[category % categoryColours]!;
      fill(seats, r * 0.92);
    }
    c.globalAlpha = 1;
    c.fillStyle = c.strokeStyle = this.colours.ink;
    fill(mine, tiny ? r * 2.2 : r * 1.05);
    if (!tiny) {
      c.strokeStyle = this.colours.sheet;
      c.lineWidth = r * 0.26;
      c.beginPath();
      for (const i of mine) {
        const [x, y] = [layout.x[i]!, layout.y[i]!];
        c.moveTo(x - r * 0.42, y + r * 0.02);
        c.lineTo(x - r * 0.1, y + r * 0.36);
        c.lineTo(x + r * 0.45, y - r * 0.34);
      }
      c.stroke();
    }
    if (this.seatPixels >= 10) {
      c.fillStyle = this.colours.sheet;
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.font = `600 ${r * 0.85}px system-ui, sans-serif`;
      for (const seats of free.values()) for (const i of seats) c.fillText(layout.label[i]!.slice(-3), layout.x[i]!, layout.y[i]! + r * 0.06);
    }
  }

  /** Before the first seat of a row; in the middle of one that closes on itself, as around a table. */
  private rowLabelAt(seats: number[]): [number, number] {
    const { x, y, radius } = this.layout;
    const apart = (a: number, b: number) => Math.hypot(x[a]! - x[b]!, y[a]! - y[b]!);
    const [first, second, last] = [seats[0]!, seats[1]!, seats[seats.length - 1]!];
    const along = seats.reduce((sum, seat, i) => (i ? sum + apart(seats[i - 1]!, seat) : 0), 0);
    if (apart(first, last) < along / 2) return [mean(seats, x), mean(seats, y)];
    const step = (radius * 2.3) / (apart(first, second) || 1);
    return [x[first]! + (x[first]! - x[second]!) * step, y[first]! + (y[first]! - y[second]!) * step];
  }

  private drawWords(c: CanvasRenderingContext2D) {
    c.textAlign = "center";
    c.textBaseline = "middle";
    const said: number[][] = [];
    const say = (text: string, x: number, y: number, size: number, weight: number, colour: string, room = Infinity) => {
      const [px, py] = this.transform.apply([x, y]);
      if (px < -80 || py < -30 || px > this.width + 80 || py > this.height + 30) return;
      c.font = `${weight} ${size}px system-ui, sans-serif`;
      // A word that does not fit, or would cover another, says less than none.
      const half = c.measureText(text).width / 2 + 2;
      if (half * 2 > room || said.some(([l, t, r, b]) => px + half > l! && px - half < r! && py + size / 2 > t! && py - size / 2 < b!)) return;
      said.push([px - half, py - size / 2, px + half, py + size / 2]);
      c.lineWidth = 3.5;
      c.lineJoin = "round";
      c.strokeStyle = this.colours.sheet;
      c.strokeText(text, px, py);
      c.fillStyle = colour;
      c.fillText(text, px, py);
    };
    const { k } = this.transform;
    const roomIn = (shape: Shape) => Math.max(shape.width ?? Infinity, shape.height ?? 0) * k;
    for (const { name, shape } of this.layout.areas) say(name, ...labelAt(shape), 13, 700, this.colours.ink, roomIn(shape));
    for (const { name, shape } of this.layout.scenery) say(shape.text?.text ?? name, ...labelAt(shape), 13, 600, this.colours.ink, roomIn(shape));
    if (this.seatPixels < 7) {
      for (const zone of this.layout.zones) if (zone.seats.length) say(zone.name, zone.x, zone.y, 12, 700, this.colours.ink, Math.max(zone.width, zone.height) * k * 0.8);
      return;
    }
    for (const row of this.layout.rows) if (row.seats.length > 1) say(row.label, ...this.rowLabelAt(row.seats), 11, 600, this.colours.quiet);
  }
}

export const categoryColours = 8;

const mean = (seats: number[], of: Float32Array) => seats.reduce((sum, i) => sum + of[i]!, 0) / seats.length;

function labelAt(shape: Shape): [number, number] {
  if (shape.text) return [shape.x + shape.text.x, shape.y + shape.text.y];
  if (shape.type === "rectangle") return [shape.x + (shape.width ?? 0) / 2, shape.y + (shape.height ?? 0) / 2];
  if (shape.type === "polygon" && shape.points?.length) {
    const n = shape.points.length;
    return [shape.x + shape.points.reduce((sum, p) => sum + p.x, 0) / n, shape.y + shape.points.reduce((sum, p) => sum + p.y, 0) / n];
  }
  return [shape.x, shape.y];
}

function shapePath(shape: Shape): Path2D {
  const path = new Path2D();
  if (shape.type === "rectangle") path.rect(0, 0, shape.width ?? 0, shape.height ?? 0);
  else if (shape.type === "polygon") {
    shape.points?.forEach((p, i) => (i ? path.lineTo(p.x, p.y) : path.moveTo(p.x, p.y)));
    path.closePath();
  } else if (shape.type !== "text") path.ellipse(0, 0, shape.rx ?? shape.radius ?? 0, shape.ry ?? shape.radius ?? 0, 0, 0, 2 * Math.PI);
  const placed = new Path2D();
  placed.addPath(path, new DOMMatrix().translate(shape.x, shape.y).rotate(shape.rotation ?? 0));
  return placed;
}

function inside(hull: number[][], x: number, y: number): boolean {
  let within = false;
  for (let i = 0, j = hull.length - 1; i < hull.length; j = i++) {
    const [a, b] = [hull[i]!, hull[j]!];
    if (a[1]! > y !== b[1]! > y && x < ((b[0]! - a[0]!) * (y - a[1]!)) / (b[1]! - a[1]!) + a[0]!) within = !within;
  }
  return within;
}
