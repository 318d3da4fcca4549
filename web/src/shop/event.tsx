import { useEffect, useState } from "preact/hooks";
import { ask, path, type Event, type Room } from "../lib/api";
import { dayAndTime, money, plural, startsAt } from "../lib/format";
import { Top, Trouble } from "../lib/page";
import { useLoaded } from "../lib/use";

export function EventPage({ slug }: { slug: string }) {
  const { value: event, cause, again } = useLoaded(() => ask<Event>("GET", path("events", slug)), slug);
  useEffect(() => {
    if (event) document.title = event.title;
  }, [event]);

  return (
    <>
      <Top />
      <main class="page">
        <Trouble cause={cause} again={again} />
        {event && (
          <>
            <header class="stack">
              <h1>{event.title}</h1>
              <p class="quiet">{event.venue_name}</p>
              {event.room && <RoomNow room={event.room} />}
            </header>
            <div class="two">
              <section class="sheet stack" aria-labelledby="dates">
                <h2 id="dates">Dates</h2>
                <ul class="dates">
                  {event.performances.map((performance) => (
                    <li key={performance.id}>
                      <span>
                        <strong>{dayAndTime(performance.starts_at)}</strong>
                        {performance.status !== "on_sale" && <span class="quiet"> · {wordsOf[performance.status] ?? performance.status}</span>}
                      </span>
                      {performance.status === "on_sale" && (
                        <a class="button primary" href={`/events/${event.slug}/performances/${performance.id}`}>Choose seats</a>
                      )}
                    </li>
                  ))}
                </ul>
              </section>
              <section class="sheet stack" aria-labelledby="prices">
                <h2 id="prices">Prices</h2>
                <table class="prices">
                  <caption class="hush">Price for each category</caption>
                  <tbody>
                    {event.categories.map((category) => (
                      <tr key={category.name}>
                        <th scope="row">{category.name}</th>
                        <td>{money(category.price)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
                <p class="quiet small">Up to {plural(event.limits.max_seats_per_session, "seat")} for each buyer.</p>
              </section>
            </div>
          </>
        )}
      </main>
    </>
  );
}

const wordsOf: Record<string, string> = { draft: "not on sale yet", ended: "sale ended", sold_out: "sold out", cancelled: "cancelled" };

/** What the event's waiting room does at the moment; silent where it cannot be known. */
function RoomNow({ room }: { room: string }) {
  const [now, setNow] = useState<Room | null>(null);
  useEffect(() => {
    const look = () => ask<Room>("GET", path("rooms", room)).then(setNow, () => setNow(null));
    void look();
    const ticker = setInterval(look, 10_000 + Math.random() * 5_000);
    return () => clearInterval(ticker);
  }, [room]);
  if (!now) return null;
  const text = {
    scheduled: now.lobby_at ?? now.opens_at ? `The waiting room opens ${startsAt((now.lobby_at ?? now.opens_at)!)}.` : "",
    lobby: `The line starts moving ${now.opens_at ? startsAt(now.opens_at) : "soon"}. You can come in now.`,
    open: now.waiting > 0 ? `${plural(now.waiting, "person is", "people are")} in line. Choose a date to join.` : "",
    paused: "The line is paused for a moment. You can still join it.",
    closed: "This sale is closed.",
    sold_out: "Everything is sold.",
  }[now.phase];
  return (
    <>
      {now.message && <p class="note">{now.message}</p>}
      {text && <p role="status">{text}</p>}
    </>
  );
}
