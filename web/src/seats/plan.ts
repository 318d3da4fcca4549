// The seating plan as the map and the list read it: flat arrays by seat index.
import Flatbush from "flatbush";
import type { Event } from "../lib/api";

export interface Shape {
  type: "rectangle" | "circle" | "ellipse" | "polygon" | "text";
  x: number;
  y: number;
  width?: number;
  height?: number;
  radius?: number;
  rx?: number;
  ry?: number;
  points?: { x: number; y: number }[];
  rotation?: number;
  /** Of the drawing, relative to x and y. */
  text?: { text: string; x: number; y: number };
}

export interface PlanDocument {
  /** Rows name their zone, and seats their row and zone, by index. */
  zones: { name: string }[];
  rows: { label: string; zone: number }[];
  /** In the order of their indexes. */
  seats: { index: number; label: string; row: number; zone: number; x: number; y: number; category: string; accessible: boolean }[];
  areas: { id: string; name: string; category: string; capacity: number; shape: Shape }[];
  decorations: { name: string; shape: Shape }[];
}

export interface Zone { name: string; seats: number[]; rows: number[]; hull: number[][]; x: number; y: number; width: number; height: number }
export interface Row { label: string; zone: number; seats: number[] }
export interface Area { id: string; name: string; category: number; capacity: number; shape: Shape }
export interface Category { name: string; amount: number | null }

export interface Layout {
  seats: number;
  x: Float32Array;
  y: Float32Array;
  category: Uint8Array;
  zone: Uint16Array;
  row: Uint32Array;
  label: string[];
  accessible: Uint8Array;
  zones: Zone[];
  rows: Row[];
  areas: Area[];
  /** Shapes that are drawn and not sold: the stage, the bar. */
  scenery: { name: string; shape: Shape }[];
  categories: Category[];
  currency: string;
  bounds: { left: number; top: number; right: number; bottom: number };
  /** Of one seat, in the plan's units. */
  radius: number;
  /** Seats by position; null in a plan without numbered seats. */
  index: Flatbush | null;
}

export function readPlan(plan: PlanDocument, event: Event): Layout {
  const n = plan.seats.length;
  const layout: Layout = {
    seats: n,
    x: new Float32Array(n),
    y: new Float32Array(n),
    category: new Uint8Array(n),
    zone: new Uint16Array(n),
    row: new Uint32Array(n),
    label: new Array<string>(n).fill(""),
    accessible: new Uint8Array(n),
    zones: plan.zones.map((z) => ({ name: z.name, seats: [], rows: [], hull: [], x: 0, y: 0, width: 0, height: 0 })),
    rows: [],
    areas: [],
    scenery: plan.decorations,
    categories: event.categories.map((c) => ({ name: c.name, amount: c.price.amount })),
    currency: event.currency,
    bounds: { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity },
    radius: 9,
    index: n ? new Flatbush(n) : null,
  };
  const categories = new Map(layout.categories.map((c, i) => [c.name, i]));
  const categoryAt = (name: string) => {
    let at = categories.get(name);
    if (at === undefined) categories.set(name, (at = layout.categories.push({ name, amount: null }) - 1));
    return at;
  };
  layout.rows = plan.rows.map((r) => ({ label: r.label, zone: r.zone, seats: [] }));
  layout.rows.forEach((r, i) => layout.zones[r.zone]?.rows.push(i));

  for (const seat of plan.seats) {
    const i = seat.index;
    layout.x[i] = seat.x;
    layout.y[i] = seat.y;
    layout.category[i] = categoryAt(seat.category);
    layout.zone[i] = seat.zone;
    layout.row[i] = seat.row;
    layout.label[i] = seat.label;
    layout.accessible[i] = seat.accessible ? 1 : 0;
    layout.zones[seat.zone]!.seats.push(i);
    layout.rows[seat.row]!.seats.push(i);
    layout.index!.add(seat.x, seat.y, seat.x, seat.y);
    widen(layout, seat.x, seat.y);
  }
  layout.index?.finish();
  for (const { category, ...area } of plan.areas) layout.areas.push({ ...area, category: categoryAt(category) });
  for (const { shape } of [...plan.areas, ...plan.decorations]) for (const [x, y] of corners(shape)) widen(layout, x, y);
  layout.radius = seatRadius(layout);
  for (const zone of layout.zones) outline(zone, layout);
  if (!Number.isFinite(layout.bounds.left)) layout.bounds = { left: 0, top: 0, right: 1, bottom: 1 };
  return layout;
}

/** "Row A", but a row that is a table or a box keeps its own name. */
export const rowName = (label: string) => (/^[A-Za-z0-9]{1,3}$/.test(label) ? `Row ${label}` : label);

/** "Stalls · Row A · Seat 12"; a row that names its section is not said twice. */
export function seatName(layout: Layout, i: number): string {
  const zone = layout.zones[layout.zone[i]!]!.name;
  const row = layout.rows[layout.row[i]!]!.label;
  const parts = row.startsWith(zone) ? [row] : [zone, rowName(row)];
  return [...parts, `Seat ${layout.label[i]}`].join(" · ");
}

function widen({ bounds }: Layout, x: number, y: number) {
  bounds.left = Math.min(bounds.left, x);
  bounds.right = Math.max(bounds.right, x);
  bounds.top = Math.min(bounds.top, y);
  bounds.bottom = Math.max(bounds.bottom, y);
}

function corners(shape: Shape): [number, number][] {
  if (shape.type === "text") return [[shape.x, shape.y]];
  if (shape.type === "polygon") return (shape.points ?? []).map((p) => [shape.x + p.x, shape.y + p.y]);
  if (shape.type === "rectangle") return [[shape.x, shape.y], [shape.x + (shape.width ?? 0), shape.y + (shape.height ?? 0)]];
  const rx = shape.rx ?? shape.radius ?? 0;
  const ry = shape.ry ?? shape.radius ?? 0;
  return [[shape.x - rx, shape.y - ry], [shape.x + rx, shape.y + ry]];
}

/** Nearly touching its neighbours: from the median distance to the nearest seat. */
function seatRadius({ index, x, y, seats }: Layout): number {
  if (!index || seats < 2) return 9;
  const distances: number[] = [];
  const step = Math.max(1, Math.floor(seats / 200));
  for (let i = 0; i < seats; i += step) {
    const other = index.neighbors(x[i]!, y[i]!, 2).find((j) => j !== i);
    if (other !== undefined) distances.push(Math.hypot(x[i]! - x[other]!, y[i]! - y[other]!));
  }
  distances.sort((a, b) => a - b);
  return Math.max(1, 0.42 * (distances[distances.length >> 1] ?? 20));
}

function outline(zone: Zone, { x, y }: Layout) {
  const points = zone.seats.map((i) => [x[i]!, y[i]!]).sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!);
  if (points.length === 0) return;
  // Andrew's monotone chain.
  const half = (ordered: number[][]) => {
    const chain: number[][] = [];
    for (const p of ordered) {
      while (chain.length > 1 && turn(chain[chain.length - 2]!, chain[chain.length - 1]!, p) <= 0) chain.pop();
      chain.push(p);
    }
    chain.pop();
    return chain;
  };
  zone.hull = points.length === 1 ? points : [...half(points), ...half([...points].reverse())];
  const xs = zone.hull.map((p) => p[0]!);
  const ys = zone.hull.map((p) => p[1]!);
  zone.width = Math.max(...xs) - Math.min(...xs);
  zone.height = Math.max(...ys) - Math.min(...ys);
  zone.x = Math.min(...xs) + zone.width / 2;
  zone.y = Math.min(...ys) + zone.height / 2;
}

const turn = (a: number[], b: number[], c: number[]) => (b[0]! - a[0]!) * (c[1]! - a[1]!) - (b[1]! - a[1]!) * (c[0]! - a[0]!);
