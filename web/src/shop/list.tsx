import { useEffect, useState } from "preact/hooks";
import { ask, path, type EventSummary } from "../lib/api";
import { day, money, plural } from "../lib/format";
import { Top, Trouble } from "../lib/page";

interface Listing { events: EventSummary[]; next?: string }

export function EventList() {
  const [events, setEvents] = useState<EventSummary[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [cause, setCause] = useState<unknown>(null);

  const load = (after: string | null) => {
    setCause(null);
    const query = after ? `?cursor=${encodeURIComponent(after)}` : "";
    ask<Listing>("GET", path("events") + query).then((listing) => {
      setEvents((had) => [...(after ? (had ?? []) : []), ...listing.events]);
      setNext(listing.next ?? null);
    }, setCause);
  };
  useEffect(() => load(null), []);

  return (
    <>
      <Top />
      <main class="page">
        <h1>What’s on</h1>
        <Trouble cause={cause} again={() => load(next)} />
        {events?.length === 0 && <p class="quiet">Nothing is on sale right now. Please look in again.</p>}
        <ul class="events">
          {events?.map((event) => (
            <li key={event.slug}>
              <a class="sheet" href={`/events/${event.slug}`}>
                <h2>{event.title}</h2>
                <p>{event.venue_name}</p>
                <p class="quiet small">{dates(event)}</p>
                <p class="quiet small">{fromPrice(event)}</p>
              </a>
            </li>
          ))}
        </ul>
        {next && <button class="button" type="button" onClick={() => load(next)}>Show more</button>}
      </main>
    </>
  );
}

function dates({ performances }: EventSummary): string {
  const ahead = performances.filter((p) => p.status === "on_sale");
  if (ahead.length === 0) return "Not on sale";
  return day(ahead[0]!.starts_at) + (ahead.length > 1 ? ` and ${plural(ahead.length - 1, "more date")}` : "");
}

function fromPrice({ categories }: EventSummary): string {
  const least = categories.reduce<(typeof categories)[number] | null>((a, b) => (a && a.price.amount <= b.price.amount ? a : b), null);
  return least ? `from ${money(least.price)}` : "";
}
