import { useEffect, useState } from "preact/hooks";
import { ask, path, Problem, type Order, type Ticket } from "../lib/api";
import { minutesSeconds, money, plural } from "../lib/format";
import { accessOf, orderIsOver, wayToPay } from "../lib/orders";
import { Top, Trouble } from "../lib/page";
import { useNow } from "../lib/use";

const firstLook = 1000;
const slowestLook = 15_000;

/** The page of one order. Its access is in the fragment, which no server sees, or in this tab’s own store. */
export function OrderPage({ event, id }: { event: string; id: string }) {
  const access = accessOf(event, id);
  const [order, setOrder] = useState<Order | null>(null);
  const [cause, setCause] = useState<unknown>(null);
  const [round, setRound] = useState(0);

  useEffect(() => {
    let timer = 0;
    let pause = firstLook;
    let ended = false;
    const look = async () => {
      try {
        const got = await ask<Order>("GET", path("events", event, "orders", id), { headers: headersOf(access) });
        if (ended) return;
        setOrder(got);
        setCause(null);
        if (got.state !== "pending") orderIsOver(event, id);
        if (got.state !== "pending" && got.state !== "refunding") return;
      } catch (problem) {
        if (ended) return;
        setCause(problem);
        if (problem instanceof Problem && problem.status >= 400 && problem.status < 500 && problem.status !== 429) return;
      }
      timer = window.setTimeout(look, pause);
      pause = Math.min(slowestLook, pause * 1.3);
    };
    void look();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [round]);

  useEffect(() => {
    document.title = order?.state === "paid" ? "Your tickets" : "Your order";
  }, [order?.state]);

  const cancel = async () => {
    try {
      await ask("POST", path("events", event, "orders", id, "cancel"), { headers: headersOf(access) });
    } catch (problem) {
      setCause(problem);
    }
    setRound(round + 1);
  };

  return (
    <>
      <Top />
      <main class="page">
        {cause instanceof Problem && (cause.status === 401 || cause.status === 403 || cause.status === 404)
          ? <p class="note warn">We cannot show this order. Please use the whole link from your e-mail.</p>
          : <Trouble cause={cause} again={() => setRound(round + 1)} />}
        <p class="hush" role="status">{order && said[order.state]}</p>
        {order && <State order={order} event={event} cancel={cancel} />}
        {order?.test && <p class="note warn">This is a rehearsal: no real money, no real tickets.</p>}
        {order?.state === "paid" && <Tickets tickets={order.tickets ?? []} access={access} />}
        {!order && !cause && <p class="quiet" role="status">Looking up your order …</p>}
      </main>
    </>
  );
}

/** Said to screen readers when the state changes; the rest of the page counts seconds and would not stop talking. */
const said: Record<Order["state"], string> = {
  pending: "Waiting for your payment.",
  paid: "Paid. Your tickets are here.",
  expired: "This order ran out of time.",
  cancelled: "This order is cancelled.",
  refunding: "Your money is on its way back.",
  refunded: "Your money was sent back.",
};

function State({ order, event, cancel }: { order: Order; event: string; cancel: () => void }) {
  const now = useNow(order.state === "pending");
  const back = <a class="button" href={`/events/${event}`}>Back to the event</a>;
  const total = money(order.total);
  switch (order.state) {
    case "paid":
      return (
        <section class="stack">
          <h1>Here {order.tickets?.length === 1 ? "is your ticket" : `are your ${plural(order.tickets?.length ?? 0, "ticket")}`}</h1>
          <p><strong>{order.title}</strong></p>
          <p class="quiet">Paid: {total}. We have sent them by e-mail too. Show a code at the door, on your phone or printed.</p>
          <div class="row no-print"><button class="button" type="button" onClick={() => print()}>Print</button></div>
        </section>
      );
    case "pending": {
      const left = Date.parse(order.expires_at) - now;
      const pay = wayToPay(order);
      return (
        <section class="stack">
          <h1>{left <= 0 ? "The time to pay is over" : "Waiting for your payment"}</h1>
          <p>
            {left <= 0
              ? "We are checking once more whether your payment arrived. Nothing is charged twice."
              : `${total}. This page goes on by itself as soon as the payment arrives.`}
          </p>
          {left > 0 && <p>Your seats are kept for <span class="countdown" role="timer" aria-live="off">{minutesSeconds(left)}</span>.</p>}
          {left > 0 && (
            <div class="row">
              {pay && <a class="button primary" href={pay}>Pay now</a>}
              <button class="button" type="button" onClick={cancel}>Cancel the order</button>
            </div>
          )}
        </section>
      );
    }
    case "expired":
      return <section class="stack"><h1>This order ran out of time</h1><p>It was not paid in time, so the seats are free again. You were not charged.</p><p>{back}</p></section>;
    case "cancelled":
      return <section class="stack"><h1>This order is cancelled</h1><p>The seats are free again and you were not charged.</p><p>{back}</p></section>;
    case "refunding":
      return <section class="stack"><h1>Your money is on its way back</h1><p>All of {total} goes back to you. There is nothing that you need to do.</p></section>;
    case "refunded":
      return <section class="stack"><h1>Your money was sent back</h1><p>All of {total} has been returned. Your bank may need some days to show it.</p><p>{back}</p></section>;
  }
}

function Tickets({ tickets, access }: { tickets: Ticket[]; access: string | null }) {
  return (
    <ul class="tickets">
      {tickets.map((ticket) => (
        <li class="sheet" key={ticket.id}>
          <div class="seat">
            <span class="quiet small">{ticket.area ? "Area" : "Seat"}</span>
            <strong>{ticket.seat_label || ticket.area}</strong>
          </div>
          <Code ticket={ticket} access={access} />
        </li>
      ))}
    </ul>
  );
}

/** The QR code, fetched with the order's access: an image element could not send it. */
function Code({ ticket, access }: { ticket: Ticket; access: string | null }) {
  const [image, setImage] = useState<string | null>(null);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    let made: string | null = null;
    let ended = false;
    fetch(ticket.qr_url, { headers: headersOf(access) }).then(async (answer) => {
      if (!answer.ok) throw new Problem(answer.status, {}, null);
      const blob = await answer.blob();
      if (ended) return;
      made = URL.createObjectURL(blob);
      setImage(made);
    }).catch(() => setMissing(true));
    return () => {
      ended = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [ticket.qr_url]);
  return (
    <figure>
      {image ? <img src={image} alt={`QR code of ticket ${ticket.code}`} width="192" height="192" /> : <span class="blank" />}
      <figcaption><code>{ticket.code.replace(/(.{4})(?=.)/g, "$1 ")}</code>{missing && <span class="small"> The picture did not load; this code is enough.</span>}</figcaption>
    </figure>
  );
}

function headersOf(access: string | null): Record<string, string> {
  return access ? { "x-order-access": access } : {};
}
