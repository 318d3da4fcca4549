import "../style/map.css";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, path, Problem, waitingRoom, type Event, type Hold, type Place } from "../lib/api";
import { day, minutesSeconds, money, plural } from "../lib/format";
import { openOrderOf } from "../lib/orders";
import { Top, Trouble } from "../lib/page";
import { useLoaded, useNow } from "../lib/use";
import { Cart } from "./cart";
import { Checkout } from "./checkout";
import { choiceOf, isHeld, lostNotice, nothing, takenNotice, takenSeats, ticketsIn, totalOf, wishOf, without, type Choice, type Notice } from "./choice";
import { Legend, PickForMe, Standing } from "./choices";
import { useHold } from "./hold";
import { SeatList } from "./list";
import { readPlan, seatName, type Layout, type PlanDocument } from "./plan";
import { MapView, type MapHandle } from "./view";
import { Free, Stock } from "./stock";

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
  const [notice, setNotice] = useState<Notice | null>(null);
  const [trouble, setTrouble] = useState<unknown>(null);
  const [category, setCategory] = useState<number | null>(null);
  const [zone, setZone] = useState<number | null>(null);
  const [step, setStep] = useState(location.hash);
  const [update, setUpdate] = useState(0);
  const [stocked, setStocked] = useState(false);
  const map = useRef<MapHandle>(null);
  const max = event.limits.max_seats_per_session;

  const { hold, busy, take, forget, ordered, letGo } = useHold(base, performance, (found) => {
    if (found) setChoice(choiceOf(found));
    else if (location.hash) toMap();
  });
  const unpaid = openOrderOf(event.slug);
  const passEnds = usePassEnd(event.room);
  const now = useNow(hold !== null || passEnds !== null);
  const inside = passEnds === null ? null : passEnds - now;
  const total = useMemo(() => money(totalOf(choice, layout)), [choice]);
  const chosen = ticketsIn(choice);

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

  function start() {
    setTrouble(null);
    stock.start().then(() => setStocked(true), (problem) => {
      if (!(problem instanceof Problem && waitingRoom(problem))) setTrouble(problem);
    });
  }

  function refused(problem: Problem) {
    const room = waitingRoom(problem);
    if (room) location.replace(room);
    else setTrouble(problem);
  }

  function toMap() {
    history.replaceState(null, "", location.pathname);
    setStep("");
  }

  useEffect(() => {
    start();
    const stepped = () => setStep(location.hash);
    addEventListener("hashchange", stepped);
    return () => {
      stock.stop();
      removeEventListener("hashchange", stepped);
    };
  }, []);

  useEffect(() => {
    if (!hold || Date.parse(hold.expires_at) > now) return;
    forget();
    toMap();
    setChoice(nothing);
    setNotice({ text: "We could not keep your seats any longer.", offer: { label: "Try the same seats again", choice } });
  }, [now, hold]);

  // Somebody else was faster: say so as soon as it is seen, not at the till.
  useEffect(() => {
    if (busy || !stocked) return;
    const mine = new Set(hold?.seats);
    const lost = [...choice.seats].filter((i) => stock.seats[i] !== Free && !mine.has(i));
    if (lost.length === 0) return;
    setChoice(without(choice, new Set(lost)));
    setNotice(lostNotice(layout, lost));
  }, [update, busy, choice]);

  const toggle = (i: number) => {
    const seats = new Set(choice.seats);
    if (!seats.delete(i)) {
      const mine = hold?.seats.includes(i);
      if (stock.seats[i] !== Free && !mine) return setNotice({ text: `${seatName(layout, i)} is taken.` });
      if (layout.categories[layout.category[i]!]!.amount === null) return setNotice({ text: `${seatName(layout, i)} is not on sale.` });
      if (chosen >= max) return setNotice(tooMany(max));
      seats.add(i);
    }
    setChoice({ ...choice, seats });
    setNotice(null);
  };
  const setArea = (id: string, quantity: number) => {
    if (quantity > (choice.areas.get(id) ?? 0) && chosen >= max) return setNotice(tooMany(max));
    const areas = new Map(choice.areas);
    if (quantity > 0) areas.set(id, quantity);
    else areas.delete(id);
    setChoice({ ...choice, areas });
    setNotice(null);
  };

  /** Holds what was wished for; null, and said why, where that was not to be had. */
  const lock = async (wish: object): Promise<Hold | null> => {
    setNotice(null);
    setTrouble(null);
    try {
      const got = await take(wish);
      setChoice(choiceOf(got));
      return got;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.code === "seats-taken") {
        setNotice(takenNotice(layout, problem));
        setChoice((had) => without(had, new Set(takenSeats(problem))));
      } else if (problem.status === 403) refused(problem);
      else setTrouble(problem);
      return null;
    }
  };
  const lockAndLook = async (wish: object) => {
    const got = await lock(wish);
    if (got) map.current?.lookAtSeats(got.seats);
  };
  const proceed = async () => {
    if (isHeld(choice, hold) || (await lock(wishOf(choice)))) location.hash = "checkout";
  };

  if (step === "#checkout" && hold) {
    return <Checkout event={event} layout={layout} hold={hold} now={now} ordered={ordered} lost={(problem) => {
      forget();
      toMap();
      if (problem.status === 403) refused(problem);
      else setNotice({ text: problem.message, offer: { label: "Try the same seats again", choice } });
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
          {layout.areas.length > 0 && <Standing layout={layout} stock={stock} chosen={choice.areas} held={hold} set={setArea} />}
          {layout.seats > 0 && <PickForMe layout={layout} max={max} busy={busy} pick={(best) => lockAndLook({ best })} category={category} />}
          {layout.seats > 0 && <SeatList layout={layout} stock={stock} picked={choice.seats} toggle={toggle} only={category} zone={zone} update={update}
            open={(z) => {
              setZone(z);
              if (z !== null) map.current?.lookAtZone(z);
            }} />}
        </div>
      </main>
      <Cart layout={layout} choice={choice} total={total} count={chosen} busy={busy} left={hold ? Date.parse(hold.expires_at) - now : null}
        toggle={toggle} setArea={setArea} proceed={proceed} letGo={() => {
          setChoice(nothing);
          void letGo();
        }}>
        {notice && (
          <div class="note warn row spread" role="alert">
            <p>{notice.text}</p>
            {notice.offer && <button class="button" type="button" disabled={busy} onClick={() => lockAndLook(wishOf(notice.offer!.choice))}>{notice.offer.label}</button>}
          </div>
        )}
        <Trouble cause={trouble} />
        {unpaid && (
          <div class="note row spread">
            <p>You have an order that waits for its payment.</p>
            <a class="button" href={`/orders/${event.slug}/${unpaid}`}>Go to your order</a>
          </div>
        )}
        {inside !== null && inside > 0 && inside < warnBefore && hold === null && (
          <p class="note warn">Your time in here ends in <span class="countdown">{minutesSeconds(inside)}</span>.</p>
        )}
      </Cart>
    </div>
  );
}

const tooMany = (max: number): Notice => ({ text: `You can buy up to ${plural(max, "ticket")}.` });

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
