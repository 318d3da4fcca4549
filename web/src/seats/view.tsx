import type { RefObject } from "preact";
import { useEffect, useImperativeHandle, useRef, useState } from "preact/hooks";
import { money, plural } from "../lib/format";
import { SeatMap } from "./map";
import { seatName, type Layout } from "./plan";
import { Free, Held, type Stock } from "./stock";

export interface MapHandle { redraw(): void; lookAtZone(zone: number): void; lookAtSeats(seats: number[]): void }

interface Props {
  handle: RefObject<MapHandle | null>;
  layout: Layout;
  stock: Stock;
  picked: ReadonlySet<number>;
  only: number | null;
  zone(zone: number): void;
  toggle(seat: number): void;
  area(id: string): void;
}

export function MapView(props: Props) {
  const { layout, stock, picked, only } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const map = useRef<SeatMap | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [tip, setTip] = useState<{ text: string; x: number; y: number } | null>(null);

  useEffect(() => {
    const made = new SeatMap(canvas.current!, layout, stock.seats, {
      seat: (i) => latest.current.toggle(i),
      zone: (z) => latest.current.zone(z),
      area: (id) => latest.current.area(id),
      over: (target, x, y) => setTip(target && { text: words(layout, stock, target), x, y }),
    });
    map.current = made;
    return () => made.destroy();
  }, []);
  useEffect(() => map.current?.choose(picked), [picked]);
  useEffect(() => map.current?.showOnly(only), [only]);
  useImperativeHandle(props.handle, () => ({
    redraw: () => map.current?.redraw(),
    lookAtZone: (z) => map.current?.lookAtZone(z),
    lookAtSeats: (seats) => map.current?.lookAtSeats(seats),
  }), []);

  const width = canvas.current?.clientWidth ?? 0;
  return (
    <div class="map">
      <canvas ref={canvas} role="img" aria-label="Seat map. The list beside it offers the same seats for the keyboard." />
      {tip && <div class="tip" style={{ transform: `translate(${Math.min(tip.x + 14, Math.max(0, width - 260))}px, ${Math.max(0, tip.y - 40)}px)` }}>{tip.text}</div>}
      <div class="zoom">
        <button class="button" type="button" aria-label="Zoom in" onClick={() => map.current?.zoomBy(1.7)}>+</button>
        <button class="button" type="button" aria-label="Zoom out" onClick={() => map.current?.zoomBy(1 / 1.7)}>−</button>
        <button class="button" type="button" aria-label="Show the whole hall" onClick={() => map.current?.fit()}>⤢</button>
      </div>
    </div>
  );
}

function words(layout: Layout, stock: Stock, target: { seat?: number; zone?: number; area?: string }): string {
  const priced = (category: number) => {
    const { name, amount } = layout.categories[category]!;
    return amount === null ? name : `${name}, ${money({ amount, currency: layout.currency })}`;
  };
  if (target.seat !== undefined) {
    const state = stock.seats[target.seat];
    const more = state === Free ? priced(layout.category[target.seat]!) : state === Held ? "being chosen by someone" : "taken";
    return `${seatName(layout, target.seat)} · ${more}${layout.accessible[target.seat] ? " · accessible" : ""}`;
  }
  if (target.area !== undefined) {
    const area = layout.areas.find((a) => a.id === target.area)!;
    return `${area.name} · ${priced(area.category)} · ${plural(stock.areas.get(area.id) ?? 0, "ticket")} left`;
  }
  const zone = layout.zones[target.zone!]!;
  return `${zone.name} · ${plural(freeIn(stock, zone.seats), "free seat")}`;
}

export function freeIn(stock: Stock, seats: number[]): number {
  let n = 0;
  for (const i of seats) if (stock.seats[i] === Free) n++;
  return n;
}
