import "../style/map.css";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, path, Problem, waitingRoom, type Event, type Hold, type Place } from "../lib/api";
import { day, minutesSeconds, money, plural } from "../lib/format";
import { openOrderOf } from "../lib/orders";
import { Top, Trouble } from "../lib/page";
import { useLoaded, useNow } from "../lib/use";
import { Cart } from "./cart";
import { Checkout } from "./checkout";
import { Legend, PickForMe, Standing } from "./choices";
import { SeatList } from "./list";
import { readPlan, seatName, type Layout, type PlanDocument } from "./plan";
import { MapView, type MapHandle } from "./view";
import { Free, Stock } from "./stock";

/** What the visitor has chosen: seats by index, and how many in each area. */
export interface Choice { seats: ReadonlySet<number>; areas: ReadonlyMap<string, number> }
const nothing: Choice = { seats: new Set(), areas: new Map() };

interface Alternative { seats?: number[]; areas?: { id: string; quantity: number }[] }
interface Notice { text: string; tone: "warn" | "stop"; offer?: { label: string; choice: Choice } }

export function SeatsPage({ slug, performance }: { slug: string; performance: string }) {
  const base = path("events", slug, "performances", performance);
  const { value, cause, again } = useLoaded(async () => {
    const [event, plan] = await Promise.all([ask<Event>("GET", path("events", slug)), ask<PlanDocument>("GET", base + "/plan")]);
    return { event, layout: readPlan(plan, event) };
  }, base);

  useEffect(() => {
    if (value) document.title = `Choose seats · ${value.event.title}`;
  }, [value]);

  if (!value) return <Loading cause={cause} again={again} />;
  return <Hall event={value.event} layout={value.layout} base={base} performance={performance} />;
}

function Loading({ cause, again }: { cause: unknown; again(): void }) {
  return (
    <>
      <Top />
      <main class="page">
        <Trouble cause={cause} again={again} />
        {!cause && <p class="quiet" role="status">Loading the hall …</p>}
      </main>
    </>
  );
}

function Hall({ event, layout, base, performance }: { event: Event; layout: Layout; base: string; performance: string }) {
  const [choice, setChoice] = useState<Choice>(nothing);
  const [hold, setHold] = useState<Hold | null>(null);
  const [busy, setBusy] = useState(false);
  const [notice, setNotice] = useState<Notice | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [category, setCategory] = useState<number | null>(null);
  const [zone, setZone] = useState<number | null>(null);
  const [step, setStep] = useState(location.hash);
  const [update, setUpdate] = useState(0);
  const [stocked, setStocked] = useState(false);
  const map = useRef<MapHandle>(null);
  const kept = `usher-hold ${performance}`;
  const max = event.limits.max_seats_per_session;

  const stock = useMemo(() => {
    let waiting = 0;
    const changed = () => {
      // Many changes a second become a few drawings of the list; the map draws at once.
      map.current?.redraw();
      waiting ||= window.setTimeout(() => {
        waiting = 0;
        setUpdate((n) => n + 1);
      }, 250);
    };
    return new Stock(layout.seats, base, changed, refused);
  }, []);

  function refused(problem: Problem) {
    const room = waitingRoom(problem);
    if (room) location.replace(room);
    else setTrouble(problem);
  }

  function start() {
    setTrouble(null);
    stock.start().then(() => setStocked(true), (problem) => {
      if (!(problem instanceof Problem && waitingRoom(problem))) setTrouble(problem);
    });
  }

  useEffect(() => {
    start();
    const id = sessionStorage.getItem(kept);
    if (id) {
      ask<Hold>("GET", `${base}/holds/${encodeURIComponent(id)}`).then(own, () => {
        sessionStorage.removeItem(kept);
        if (location.hash) history.replaceState(null, "", location.pathname);
        setStep("");
      });
    } else if (location.hash) {
      history.replaceState(null, "", location.pathname);
      setStep("");
    }
    const stepped = () => setStep(location.hash);
    addEventListener("hashchange", stepped);
    return () => {
      stock.stop();
      removeEventListener("hashchange", stepped);
    };
  }, []);

  const own = useCallback((got: Hold) => {
    sessionStorage.setItem(kept, got.id);
    setHold(got);
    setChoice({ seats: new Set(got.seats), areas: new Map(got.areas.map((a) => [a.id, a.quantity])) });
  }, []);

  const unpaid = openOrderOf(event.slug);
  const passEnds = usePassEnd(event.room);
  const now = useNow(hold !== null || passEnds !== null);
  const inside = passEnds === null ? null : passEnds - now;
  useEffect(() => {
    if (!hold || Date.parse(hold.expires_at) > now) return;
    setHold(null);
    sessionStorage.removeItem(kept);
    setChoice(nothing);
    setNotice({ text: "We could not keep your seats any longer.", tone: "warn", offer: { label: "Try the same seats again", choice } });
    if (location.hash) history.back();
  }, [now, hold]);

  // Somebody else was faster: say so as soon as it is seen, not at the till.
  useEffect(() => {
    if (busy || !stocked) return;
    const mine = new Set(hold?.seats);
    const lost = [...choice.seats].filter((i) => stock.seats[i] !== Free && !mine.has(i));
    if (lost.length === 0) return;
    setChoice({ ...choice, seats: new Set([...choice.seats].filter((i) => !lost.includes(i))) });
    setNotice({ text: `${lost.map((i) => seatName(layout, i)).join(", ")} ${lost.length === 1 ? "was" : "were"} just taken by someone else.`, tone: "warn" });
  }, [update, busy, choice]);

  const total = useMemo(() => {
    let amount = 0;
    for (const i of choice.seats) amount += layout.categories[layout.category[i]!]?.amount ?? 0;
    for (const area of layout.areas) amount += (layout.categories[area.category]?.amount ?? 0) * (choice.areas.get(area.id) ?? 0);
    return { amount, currency: layout.currency };
  }, [choice]);
  const chosen = choice.seats.size + [...choice.areas.values()].reduce((sum, n) => sum + n, 0);

  const toggle = (i: number) => {
    const seats = new Set(choice.seats);
    if (seats.delete(i)) {
      setNotice(null);
    } else if (stock.seats[i] !== Free && !hold?.seats.includes(i)) {
      return setNotice({ text: `${seatName(layout, i)} is taken.`, tone: "warn" });
    } else if (layout.categories[layout.category[i]!]?.amount == null) {
      return setNotice({ text: `${seatName(layout, i)} is not on sale.`, tone: "warn" });
    } else if (chosen >= max) {
      return setNotice({ text: `You can buy up to ${plural(max, "seat")}.`, tone: "warn" });
    } else {
      seats.add(i);
      setNotice(null);
    }
    setChoice({ ...choice, seats });
  };
  const setArea = (id: string, quantity: number) => {
    if (quantity > (choice.areas.get(id) ?? 0) && chosen >= max) {
      return setNotice({ text: `You can buy up to ${plural(max, "ticket")}.`, tone: "warn" });
    }
    const areas = new Map(choice.areas);
    if (quantity > 0) areas.set(id, quantity);
    else areas.delete(id);
    setChoice({ ...choice, areas });
    setNotice(null);
  };

  /** Locks what was asked for; true when it is ours. */
  const take = async (body: Record<string, unknown>): Promise<Hold | null> => {
    setBusy(true);
    setNotice(null);
    setTrouble(null);
    try {
      const got = await ask<Hold>("POST", base + "/holds", { body: { ...body, ...(hold ? { replace: hold.id } : {}) } });
      own(got);
      return got;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 403) refused(problem);
      else if (problem.code === "seats-taken") setNotice(takenNotice(layout, problem));
      else setTrouble(problem);
      if (problem.code === "seats-taken") {
        const taken = new Set((problem.body.taken as number[] | undefined) ?? []);
        setChoice((had) => ({ ...had, seats: new Set([...had.seats].filter((i) => !taken.has(i))) }));
      }
      return null;
    } finally {
      setBusy(false);
    }
  };
  const bodyOf = (of: Choice) => ({ seats: [...of.seats].sort((a, b) => a - b), areas: [...of.areas].map(([id, quantity]) => ({ id, quantity })) });
  const proceed = async () => {
    if (hold && same(hold, choice)) location.hash = "checkout";
    else if (await take(bodyOf(choice))) location.hash = "checkout";
  };
  const pick = async (wish: Record<string, unknown>) => {
    const got = await take({ best: wish });
    if (got) map.current?.lookAtSeats(got.seats);
  };
  const letGo = async () => {
    if (hold) await ask("DELETE", `${base}/holds/${encodeURIComponent(hold.id)}`).catch(() => {}); // it ends by itself
    sessionStorage.removeItem(kept);
    setHold(null);
    setChoice(nothing);
  };

  if (step === "#checkout" && hold) {
    return <Checkout event={event} layout={layout} hold={hold} now={now} lost={(problem) => {
      setHold(null);
      sessionStorage.removeItem(kept);
      history.back();
      if (problem.status === 403) refused(problem);
      else setNotice({ text: problem.message, tone: "warn", offer: { label: "Try the same seats again", choice } });
    }} />;
  }

  // Before the first answer everything would look free, and perhaps there is no pass yet.
  if (!stocked) return <Loading cause={trouble} again={start} />;
  const at = event.performances.find((p) => p.id === performance)?.starts_at;
  return (
    <div class="hall">
      <Top>
        <p class="small"><a href={`/events/${event.slug}`}>{event.title}</a>{at && <span class="quiet"> · {day(at)}</span>}</p>
      </Top>
      <main class="floor">
        <h1 class="hush">Choose seats for {event.title}</h1>
        <MapView handle={map} layout={layout} stock={stock} picked={choice.seats} only={category} zone={setZone} toggle={toggle}
          area={(id) => setArea(id, (choice.areas.get(id) ?? 0) + 1)} />
        <div class="side">
          <Legend layout={layout} only={category} choose={setCategory} />
          {layout.areas.length > 0 && <Standing layout={layout} stock={stock} chosen={choice.areas} set={setArea} />}
          {layout.seats > 0 && <PickForMe layout={layout} max={max} busy={busy} pick={pick} category={category} />}
          {layout.seats > 0 && <SeatList layout={layout} stock={stock} picked={choice.seats} toggle={toggle} only={category} zone={zone} update={update}
            open={(z) => {
              setZone(z);
              if (z !== null) map.current?.lookAtZone(z);
            }} />}
        </div>
      </main>
      <Cart layout={layout} choice={choice} total={money(total)} count={chosen} busy={busy} left={hold ? Date.parse(hold.expires_at) - now : null}
        toggle={toggle} setArea={setArea} proceed={proceed} letGo={letGo}>
        {notice && (
          <div class={`note ${notice.tone} row spread`} role="alert">
            <p>{notice.text}</p>
            {notice.offer && (
              <button class="button" type="button" disabled={busy} onClick={async () => {
                const got = await take(bodyOf(notice.offer!.choice));
                if (got) map.current?.lookAtSeats(got.seats);
              }}>{notice.offer.label}</button>
            )}
          </div>
        )}
        <Trouble cause={trouble} />
        {unpaid && !notice && (
          <div class="note row spread">
            <p>You have an order that waits for its payment.</p>
            <a class="button" href={`/orders/${event.slug}/${unpaid}`}>Go to your order</a>
          </div>
        )}
        {inside !== null && inside < warnBefore && hold === null && <p class="note warn">Your time in here ends in <span class="countdown">{minutesSeconds(inside)}</span>. Seats that you choose now are kept until then.</p>}
      </Cart>
    </div>
  );
}

/** Milliseconds before the end of the session at which the page says so. */
const warnBefore = 180_000;

/** When the visitor's session ends; null where there is no room, or none is known. */
function usePassEnd(room: string | null): number | null {
  const [end, setEnd] = useState<number | null>(null);
  useEffect(() => {
    if (!room) return;
    ask<Place>("GET", path("rooms", room, "place")).then((place) => {
      if (place.pass_expires_at) setEnd(Date.parse(place.pass_expires_at));
    }, () => {}); // a pass from elsewhere has no place; its end is then met without a warning
  }, [room]);
  return end;
}

function same(hold: Hold, choice: Choice): boolean {
  return hold.seats.length === choice.seats.size && hold.seats.every((i) => choice.seats.has(i))
    && hold.areas.length === choice.areas.size && hold.areas.every((a) => choice.areas.get(a.id) === a.quantity);
}

function takenNotice(layout: Layout, problem: Problem): Notice {
  const taken = (problem.body.taken as number[] | undefined) ?? [];
  const other = problem.body.alternative as Alternative | number[] | null | undefined;
  const seats = Array.isArray(other) ? other : (other?.seats ?? []);
  const areas = (Array.isArray(other) ? [] : other?.areas) ?? [];
  const text = taken.length ? `${taken.filter((i) => i < layout.seats).map((i) => seatName(layout, i)).join(", ") || "These"} ${taken.length === 1 ? "was" : "were"} just taken.` : problem.message;
  if (seats.length === 0 && areas.length === 0) return { text: `${text} Please choose again.`, tone: "warn" };
  const names = seats.map((i) => seatName(layout, i)).join(", ");
  return {
    text: names ? `${text} Still free: ${names}.` : text,
    tone: "warn",
    offer: { label: "Take these instead", choice: { seats: new Set(seats), areas: new Map(areas.map((a) => [a.id, a.quantity])) } },
  };
}
