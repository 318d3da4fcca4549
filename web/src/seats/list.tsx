import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { money, plural } from "../lib/format";
import { categoryColours } from "./map";
import { rowName, seatName, type Layout } from "./plan";
import { Free, type Stock } from "./stock";

interface Props {
  layout: Layout;
  stock: Stock;
  picked: ReadonlySet<number>;
  only: number | null;
  zone: number | null;
  /** Changes with the stock, so that the list follows it. */
  update: number;
  toggle(seat: number): void;
  open(zone: number | null): void;
}

/** The seats for the keyboard and for readers: sections first, then one section's free seats by row. */
export function SeatList({ layout, stock, picked, only, zone, update, toggle, open }: Props) {
  const [accessible, setAccessible] = useState(false);
  const wanted = (i: number) => (stock.seats[i] === Free || picked.has(i)) && (only === null || layout.category[i] === only) && (!accessible || layout.accessible[i] === 1);
  const zones = useMemo(
    () => layout.zones.map((z, i) => ({ zone: z, i, free: z.seats.filter(wanted) })).filter((z) => z.zone.seats.length > 0),
    [update, only, accessible, picked],
  );
  // The button that was pressed is gone with its list: the keyboard goes on at the new list's head.
  const all = useRef<HTMLHeadingElement>(null);
  const one = useRef<HTMLHeadingElement>(null);
  const pressed = useRef(false);
  useLayoutEffect(() => {
    if (pressed.current) (zone === null ? all : one).current?.focus();
    pressed.current = false;
  }, [zone]);
  const press = (z: number | null) => {
    pressed.current = true;
    open(z);
  };
  const hasAccessible = layout.accessible.includes(1);
  const shown = zone === null ? null : layout.zones[zone]!;
  return (
    <section aria-labelledby="seats">
      <h2 id="seats" ref={all} tabIndex={-1}>Seats as a list</h2>
      {only !== null && <p class="quiet small">Only {layout.categories[only]!.name}, as chosen under Prices.</p>}
      {hasAccessible && (
        <label class="check"><input type="checkbox" checked={accessible} onChange={(e) => setAccessible(e.currentTarget.checked)} /> Accessible seats only</label>
      )}
      {shown === null ? (
        <ul class="zones">
          {zones.map(({ zone: z, i, free }) => (
            <li key={i}>
              <button class="button" type="button" disabled={free.length === 0} onClick={() => press(i)}>
                {z.name}<small>{free.length ? `${plural(free.length, "seat")}${fromPrice(layout, free)}` : "none free"}</small>
              </button>
            </li>
          ))}
        </ul>
      ) : (
        <>
          <div class="row spread">
            <h3 ref={one} tabIndex={-1}>{shown.name}</h3>
            <button class="button plain" type="button" onClick={() => press(null)}>All sections</button>
          </div>
          <ul class="rows">
            {shown.rows.map((r) => {
              const seats = layout.rows[r]!.seats.filter(wanted);
              if (seats.length === 0) return null;
              return (
                <li key={r}>
                  <span class="label" id={`row-${r}`}>{rowName(layout.rows[r]!.label)}</span>
                  <ul aria-labelledby={`row-${r}`}>
                    {seats.map((i) => (
                      <li key={i}>
                        <button class={`seat c${layout.category[i]! % categoryColours} ${layout.accessible[i] ? "accessible" : ""}`} type="button" aria-pressed={picked.has(i)}
                          aria-label={`${seatName(layout, i)}, ${layout.categories[layout.category[i]!]!.name}${layout.accessible[i] ? ", accessible" : ""}`} onClick={() => toggle(i)}>
                          {layout.label[i]}
                        </button>
                      </li>
                    ))}
                  </ul>
                </li>
              );
            })}
          </ul>
          {!shown.rows.some((r) => layout.rows[r]!.seats.some(wanted)) && <p class="quiet">Nothing free here that fits.</p>}
        </>
      )}
    </section>
  );
}

function fromPrice(layout: Layout, seats: number[]): string {
  let least = Infinity;
  for (const i of seats) least = Math.min(least, layout.categories[layout.category[i]!]?.amount ?? Infinity);
  return Number.isFinite(least) ? ` from ${money({ amount: least, currency: layout.currency })}` : "";
}
