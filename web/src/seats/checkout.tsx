import { useEffect, useRef, useState } from "preact/hooks";
import { ask, path, Problem, type Event, type Hold, type Order } from "../lib/api";
import { minutesSeconds, money } from "../lib/format";
import { attemptIsOver, attemptKey, rememberAccess, rememberOpenOrder, wayToPay } from "../lib/orders";
import { Top, Trouble } from "../lib/page";
import { seatName, type Layout } from "./plan";

interface Props {
  event: Event;
  layout: Layout;
  hold: Hold;
  now: number;
  /** An order was made of the hold. */
  ordered(): void;
  /** The hold is gone, or its seats are: back to the map. */
  lost(problem: Problem): void;
}

/** Attempts under one key while the box office answers "in progress" or not at all. */
const attempts = 6;

export function Checkout({ event, layout, hold, now, ordered, lost }: Props) {
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [faults, setFaults] = useState<Record<string, string>>({});
  const heading = useRef<HTMLHeadingElement>(null);
  const left = Date.parse(hold.expires_at) - now;
  useEffect(() => {
    document.title = `Checkout · ${event.title}`;
    scrollTo(0, 0);
    heading.current?.focus();
  }, []);

  const submit = async (e: SubmitEvent) => {
    e.preventDefault();
    const form = new FormData(e.currentTarget as HTMLFormElement);
    const value = (name: string) => String(form.get(name) ?? "").trim();
    const missing: Record<string, string> = {};
    if (!value("name")) missing.name = "Please tell us your name.";
    if (!/^\S+@\S+\.\S+$/.test(value("email"))) missing.email = "This does not look like an e-mail address.";
    setFaults(missing);
    if (Object.keys(missing).length) {
      document.getElementById(Object.keys(missing)[0]!)?.focus();
      return;
    }
    const phone = value("phone");
    const body = { hold: hold.id, buyer: { email: value("email"), name: value("name"), ...(phone ? { phone } : {}) }, provider: "sandbox" };
    setBusy(true);
    setTrouble(null);
    try {
      const order = await place(event.slug, hold.id, body);
      rememberOpenOrder(event.slug, order.id);
      if (order.access) rememberAccess(event.slug, order.id, order.access);
      const page = `/orders/${event.slug}/${order.id}${order.access ? `#access=${encodeURIComponent(order.access)}` : ""}`;
      ordered();
      location.assign(wayToPay(order) ?? page);
    } catch (problem) {
      setBusy(false);
      if (!(problem instanceof Problem)) throw problem;
      if (problem.code === "hold-expired" || problem.code === "seats-taken" || problem.status === 403) return lost(problem);
      const found = fieldFaults(problem);
      setFaults(found);
      if (Object.keys(found).length === 0) setTrouble(problem);
    }
  };

  const field = (id: string, label: string, type: "text" | "email" | "tel", complete: string, hint?: string) => (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} name={id} type={type as "text"} autocomplete={complete as "name"} aria-invalid={!!faults[id]} aria-describedby={faults[id] ? `${id}-fault` : hint ? `${id}-hint` : undefined} required={id !== "phone"} />
      {hint && <span class="quiet small" id={`${id}-hint`}>{hint}</span>}
      {faults[id] && <span class="fault" id={`${id}-fault`}>{faults[id]}</span>}
    </div>
  );
  return (
    <>
      <Top>
        <p>Your seats are kept for <span class={`countdown ${left < 60_000 ? "soon" : ""}`} role="timer" aria-live="off">{minutesSeconds(left)}</span></p>
      </Top>
      <main class="page checkout">
        <h1 ref={heading} tabIndex={-1}>Checkout</h1>
        <div class="two">
          <form class="sheet stack" onSubmit={submit} novalidate>
            <h2>Who are the tickets for?</h2>
            {field("name", "Name", "text", "name")}
            {field("email", "E-mail", "email", "email", "Your tickets go here.")}
            {field("phone", "Phone (if you like)", "tel", "tel")}
            <Trouble cause={trouble} />
            <button class="button primary" disabled={busy}>{busy ? "One moment …" : `Pay ${money(hold.total)}`}</button>
            <button class="button plain" type="button" onClick={() => history.back()}>Back to the seats</button>
          </form>
          <section class="sheet stack" aria-labelledby="yours">
            <h2 id="yours">{event.title}</h2>
            <ul class="lines">
              {hold.seats.map((i) => <li key={i}><span>{seatName(layout, i)}</span><Price layout={layout} category={layout.category[i]!} /></li>)}
              {hold.areas.map((a) => {
                const area = layout.areas.find((x) => x.id === a.id);
                return <li key={a.id}><span>{a.quantity} × {area?.name}</span>{area && <Price layout={layout} category={area.category} times={a.quantity} />}</li>;
              })}
            </ul>
            <p class="total"><span>Total</span><span class="number">{money(hold.total)}</span></p>
          </section>
        </div>
      </main>
    </>
  );
}

function Price({ layout, category, times = 1 }: { layout: Layout; category: number; times?: number }) {
  const amount = layout.categories[category]?.amount;
  return amount == null ? null : <span class="number">{money({ amount: amount * times, currency: layout.currency })}</span>;
}

/** Places the order once, however often it has to be sent: every attempt carries the same key. */
async function place(event: string, hold: string, body: unknown): Promise<Order> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask<Order>("POST", path("events", event, "orders"), { body, headers: { "idempotency-key": attemptKey(hold, body) } });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const passing = problem.status === 0 || problem.status >= 500 || problem.status === 429 || problem.code === "idempotency-conflict";
      if (!passing) attemptIsOver(hold);
      if (!passing || attempt === attempts) throw problem;
      await new Promise((resolve) => setTimeout(resolve, (problem.retryAfter ?? attempt) * 1000));
    }
  }
}

/** {"location":"body.buyer.email"} to the field of that name. */
function fieldFaults(problem: Problem): Record<string, string> {
  const found: Record<string, string> = {};
  for (const fault of (problem.body.errors as { location?: string; message?: string }[] | undefined) ?? []) {
    const name = fault.location?.split(".").pop();
    if (name && ["name", "email", "phone"].includes(name)) found[name] = fault.message ?? "Please check this.";
  }
  return found;
}
