import type { ComponentChildren } from "preact";
import { minutesSeconds, plural } from "../lib/format";
import type { Choice } from "./choice";
import { seatName, type Layout } from "./plan";

interface Props {
  layout: Layout;
  choice: Choice;
  count: number;
  total: string;
  busy: boolean;
  /** Milliseconds that the hold still lasts; null without one. */
  left: number | null;
  toggle(seat: number): void;
  setArea(id: string, quantity: number): void;
  proceed(): void;
  letGo(): void;
  children: ComponentChildren;
}

export function Cart({ layout, choice, count, total, busy, left, toggle, setArea, proceed, letGo, children }: Props) {
  return (
    <section class="cart" aria-label="Your choice">
      {children}
      {count > 0 && (
        <div class="chips">
          {[...choice.seats].map((i) => (
            <span class="chip" key={i}>
              {seatName(layout, i)}
              <button type="button" aria-label={`Remove ${seatName(layout, i)}`} onClick={() => toggle(i)}>×</button>
            </span>
          ))}
          {[...choice.areas].map(([id, quantity]) => {
            const name = layout.areas.find((a) => a.id === id)?.name ?? id;
            return (
              <span class="chip" key={id}>
                {quantity} × {name}
                <button type="button" aria-label={`Remove ${name}`} onClick={() => setArea(id, 0)}>×</button>
              </span>
            );
          })}
        </div>
      )}
      <div class="row spread">
        <span>
          {count === 0 ? <span class="quiet">Nothing chosen yet</span> : <><strong class="number">{total}</strong> <span class="quiet">for {plural(count, "ticket")}</span></>}
          {left !== null && <> · kept for <span class={`countdown ${left < 60_000 ? "soon" : ""}`} role="timer" aria-live="off">{minutesSeconds(left)}</span></>}
        </span>
        <span class="row">
          {left !== null && <button class="button plain" type="button" onClick={letGo}>Start over</button>}
          <button class="button primary" type="button" disabled={count === 0 || busy} onClick={proceed}>{busy ? "One moment …" : "Continue"}</button>
        </span>
      </div>
    </section>
  );
}
