import { useEffect, useState } from "preact/hooks";
import type { Hold } from "../lib/api";
import { money, plural } from "../lib/format";
import { categoryColours } from "./map";
import type { Layout } from "./plan";
import type { Stock } from "./stock";

/** Prices, and at the same time the map's key and filter. */
export function Legend({ layout, only, choose }: { layout: Layout; only: number | null; choose(category: number | null): void }) {
  const sold = new Set([...layout.category, ...layout.areas.map((a) => a.category)]);
  return (
    <section aria-labelledby="prices">
      <h2 id="prices">Prices</h2>
      <ul class="legend">
        {layout.categories.map((c, i) => sold.has(i) && (
          <li key={c.name}>
            <button type="button" aria-pressed={only === i} onClick={() => choose(only === i ? null : i)}>
              <span class={`swatch c${i % categoryColours}`} />
              <span>{c.name}</span>
              <strong class="number">{c.amount === null ? "not on sale" : money({ amount: c.amount, currency: layout.currency })}</strong>
            </button>
          </li>
        ))}
      </ul>
      <p class="keys">
        <span><i class="swatch taken" /> taken</span>
        <span><i class="swatch mine" /> yours</span>
        {layout.accessible.includes(1) && <span><i class="swatch square" /> accessible</span>}
      </p>
    </section>
  );
}

export function Stepper({ value, min, max, label, set }: { value: number; min: number; max: number; label: string; set(n: number): void }) {
  return (
    <span class="stepper" role="group" aria-label={label}>
      <button class="button" type="button" aria-label="One less" disabled={value <= min} onClick={() => set(value - 1)}>−</button>
      <output>{value}</output>
      <button class="button" type="button" aria-label="One more" disabled={value >= max} onClick={() => set(value + 1)}>+</button>
    </span>
  );
}

export function Standing({ layout, stock, chosen, held, set }: { layout: Layout; stock: Stock; chosen: ReadonlyMap<string, number>; held: Hold | null; set(id: string, quantity: number): void }) {
  return (
    <section aria-labelledby="areas">
      <h2 id="areas">Areas</h2>
      {layout.areas.map((area) => {
        const free = stock.areas.get(area.id) ?? 0;
        const amount = layout.categories[area.category]?.amount;
        const mine = chosen.get(area.id) ?? 0;
        const kept = held?.areas.find((a) => a.id === area.id)?.quantity ?? 0; // no longer counted as free
        return (
          <div class="row spread" key={area.id}>
            <span>
              <strong>{area.name}</strong>
              <br />
              <span class="quiet small">{amount != null && `${money({ amount, currency: layout.currency })} · `}{free > 0 ? `${plural(free, "ticket")} left` : "sold out"}</span>
            </span>
            <Stepper value={mine} min={0} max={free + kept} label={`Tickets for ${area.name}`} set={(n) => set(area.id, n)} />
          </div>
        );
      })}
    </section>
  );
}

/** The box office picks: the fastest way to seats side by side while everyone else is choosing too. */
export function PickForMe({ layout, max, busy, pick, category }: { layout: Layout; max: number; busy: boolean; pick(wish: Record<string, unknown>): void; category: number | null }) {
  const [quantity, setQuantity] = useState(Math.min(2, max));
  const [within, setWithin] = useState("");
  useEffect(() => setWithin(category === null ? "" : layout.categories[category]!.name), [category]);
  const seated = new Set(layout.category);
  return (
    <section aria-labelledby="best">
      <h2 id="best">Pick for me</h2>
      <div class="row spread">
        <span id="together">Seats side by side</span>
        <Stepper value={quantity} min={1} max={max} label="Seats side by side" set={setQuantity} />
      </div>
      <div class="field">
        <label for="within">Category</label>
        <select id="within" value={within} onChange={(e) => setWithin(e.currentTarget.value)}>
          <option value="">Any</option>
          {layout.categories.map((c, i) => seated.has(i) && c.amount !== null && <option key={c.name}>{c.name}</option>)}
        </select>
      </div>
      <button class="button" type="button" disabled={busy} onClick={() => pick({ quantity, adjacent: true, ...(within ? { category: within } : {}) })}>
        Find {plural(quantity, "seat")}
      </button>
    </section>
  );
}
