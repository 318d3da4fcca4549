import { useEffect, useRef, useState } from "preact/hooks";
import { ask, Problem } from "../lib/api";
import { count } from "../lib/format";
import { live } from "../lib/live";
import { Trouble } from "../lib/page";
import { Chart } from "./chart";
import { stateOf, type RoomLive } from "./room-live";
import { change } from "./session";

export function RoomPage({ room, ended }: { room: string; ended(): void }) {
  const at = `/api/v1/operate/rooms/${encodeURIComponent(room)}`;
  const [now, setNow] = useState<RoomLive | null>(null);
  const [connected, setConnected] = useState(true);
  const [cause, setCause] = useState<unknown>(null);
  const [said, setSaid] = useState("");
  const chart = useRef<Chart | null>(null);
  const drawing = useRef<HTMLDivElement>(null);

  const failed = (problem: unknown) => {
    if (problem instanceof Problem && problem.status === 401) ended();
    else setCause(problem);
  };
  const receive = (document: RoomLive) => {
    setNow(document);
    chart.current?.add(document);
  };
  useEffect(() => {
    const made = new Chart(drawing.current!);
    chart.current = made;
    ask<RoomLive>("GET", at).then(receive, failed);
    const socket = live<RoomLive>({
      path: at + "/ws",
      message: receive,
      connected: setConnected,
      ended: () => void ask<RoomLive>("GET", at).then(receive, failed), // says whether the session is over
      poll: async () => {
        try {
          return { body: await ask<RoomLive>("GET", at), pause: 2 };
        } catch (problem) {
          failed(problem);
          throw problem;
        }
      },
    });
    return () => {
      socket.close();
      made.destroy();
    };
  }, [room]);
  useEffect(() => {
    if (now) document.title = `${count(now.waiting)} waiting · ${now.title}`;
  }, [now]);

  const put = async (settings: Partial<Record<keyof RoomLive, unknown>>, done: string) => {
    setCause(null);
    setSaid("");
    try {
      await change("PUT", at, settings);
      setSaid(done);
      ask<RoomLive>("GET", at).then(receive, failed);
    } catch (problem) {
      failed(problem);
    }
  };
  const admit = async (n: number) => {
    setCause(null);
    setSaid("");
    try {
      await change("POST", at + "/admit", { count: n });
      setSaid(`Asked for ${count(n)} more. Capacity still holds.`);
    } catch (problem) {
      failed(problem);
    }
  };

  const state = now && stateOf(now);
  return (
    <>
      <p class="small"><a href="/console">All rooms</a></p>
      {now && (
        <header class="row spread">
          <h1>{now.title || now.room}</h1>
          <span class="row"><span class={`tag ${state!.tone}`} id="phase">{state!.text}</span>{!connected && <span class="tag warn">reconnecting</span>}</span>
        </header>
      )}
      <Trouble cause={cause} />
      <p role="status" class={said ? "note" : "hush"}>{said}</p>
      {now && <Figures now={now} />}
      <section class="sheet stack" aria-label="The last minutes"><div class="chart" ref={drawing} /></section>
      {now && (
        <div class="controls">
          <section class="sheet" aria-label="Doors">
            <h2>Doors</h2>
            {now.phase === "paused" || now.state === "paused"
              ? <button class="button primary" type="button" onClick={() => put({ state: "auto" }, "The line moves again.")}>Resume</button>
              : <button class="button stop" type="button" onClick={() => put({ state: "paused" }, "The line is paused. Places are safe.")}>Pause the line</button>}
            <p class="quiet small">A pause stops calls at once. Those inside go on, and nobody loses a place.</p>
            <Setting id="admit" label="Let in beyond the pace" value={10} least={1} button="Let in" step={10} apply={admit} />
          </section>
          <section class="sheet" aria-label="Pace">
            <h2>Pace</h2>
            <Setting id="pace" label="Calls a minute" value={now.pace_per_min} least={0} button="Set the pace" step={step(now.pace_per_min)} apply={(n) => put({ pace_per_min: n }, `The pace is ${count(n)} a minute.`)} />
            <Setting id="capacity" label="Inside at once" value={now.capacity} least={0} button="Set the capacity" step={step(now.capacity)} apply={(n) => put({ capacity: n }, `The capacity is ${count(n)}.`)} />
          </section>
          <Message message={now.message} put={put} />
        </div>
      )}
    </>
  );
}

function Figures({ now }: { now: RoomLive }) {
  const figures: [string, number, string?][] = [
    ["Waiting", now.waiting, `${count(now.present)} present`],
    ["Called", now.called, "on their way in"],
    ["Inside", now.sessions, `of ${count(now.capacity)}`],
    ["A minute", Math.round(now.pace_actual_per_min), `of ${count(now.pace_per_min)}`],
    ["Let in so far", now.admitted_total],
    ["Missed", now.missed, "may come back"],
    ["Gone", now.lapsed + now.left, `${count(now.left)} left, ${count(now.lapsed)} lapsed`],
  ];
  return (
    <>
      <dl class="sheet figures">
        {figures.map(([name, n, more]) => <div key={name}><dt>{name}</dt><dd>{count(n)}{more && <span class="small"><br />{more}</span>}</dd></div>)}
      </dl>
      {now.origin_status && now.origin_status.health !== "unknown" && <p class="quiet small">Shop: {now.origin_status.health}, {count(Math.round(now.origin_status.latency_ms))} ms, {count(now.origin_status.in_flight)} requests in flight.</p>}
    </>
  );
}

/** A number that is set by its button, so that a half-typed one is never in force. */
function Setting({ id, label, value, least, button, step, apply }: { id: string; label: string; value: number; least: number; button: string; step: number; apply(n: number): Promise<void> }) {
  const [text, setText] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const shown = text ?? String(value);
  const n = Number(shown);
  const valid = shown.trim() !== "" && Number.isInteger(n) && n >= least && n <= 1_000_000;
  const move = (by: number) => setText(String(Math.max(least, (valid ? n : value) + by)));
  const submit = async (e: SubmitEvent) => {
    e.preventDefault();
    if (!valid) return;
    setBusy(true);
    await apply(n);
    setBusy(false);
    setText(null);
  };
  return (
    <form class="stack" onSubmit={submit}>
      <div class="field">
        <label for={id}>{label}</label>
        <div class="amount">
          <button class="button" type="button" aria-label={`Less: ${label}`} onClick={() => move(-step)}>−</button>
          <input id={id} inputMode="numeric" value={shown} aria-invalid={!valid} onInput={(e) => setText(e.currentTarget.value)} />
          <button class="button" type="button" aria-label={`More: ${label}`} onClick={() => move(step)}>+</button>
        </div>
        {!valid && <span class="fault">Please give a whole number from {least}.</span>}
      </div>
      <button class="button" disabled={!valid || busy}>{button}</button>
    </form>
  );
}

function Message({ message, put }: { message: string | null; put(settings: { message: string | null }, done: string): Promise<void> }) {
  const [text, setText] = useState<string | null>(null);
  return (
    <section class="sheet" aria-label="Message">
      <h2>Message</h2>
      <form class="stack" onSubmit={async (e) => {
        e.preventDefault();
        const said = (text ?? message ?? "").trim();
        await put({ message: said || null }, said ? "Everyone in line sees the message." : "The message is gone.");
        setText(null);
      }}>
        <div class="field">
          <label for="message">To those who wait</label>
          <textarea id="message" maxLength={500} value={text ?? message ?? ""} onInput={(e) => setText(e.currentTarget.value)} />
        </div>
        <button class="button" disabled={text === null}>Show it</button>
        {message && <button class="button plain" type="button" onClick={() => (setText(null), put({ message: null }, "The message is gone."))}>Take it down</button>}
      </form>
    </section>
  );
}

const step = (n: number) => (n >= 1000 ? 100 : n >= 100 ? 20 : n >= 20 ? 10 : 1);
