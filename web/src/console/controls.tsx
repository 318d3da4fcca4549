import { useRef, useState } from "preact/hooks";
import { count, plural } from "../lib/format";
import { Guests } from "./guests";
import type { Put, RoomLive } from "./room-live";
import { Schedule } from "./schedule";

interface Props {
  now: RoomLive;
  put: Put;
  admit(n: number): Promise<unknown>;
  reset(): Promise<unknown>;
  /** The draw was made: what it rests on is fixed until a reset. */
  drawn: boolean;
}

/** Everything that an operator can change about a room. */
export function Controls({ now, put, admit, reset, drawn }: Props) {
  return (
    <div class="controls">
      <section class="sheet" aria-label="Doors">
        <h2>Doors</h2>
        <Doors now={now} put={put} />
        <Setting id="admit" label="Let in beyond the pace" value={10} least={1} button="Let in" step={10} apply={admit} />
      </section>
      <section class="sheet" aria-label="Pace">
        <h2>Pace</h2>
        <Setting id="pace" label="Calls a minute" value={now.pace_per_min} least={0} button="Set the pace" step={step(now.pace_per_min)} apply={(n) => put({ pace_per_min: n }, `The pace is ${count(n)} a minute.`)} />
        <Setting id="capacity" label="Inside at once" value={now.capacity} least={0} button="Set the capacity" step={step(now.capacity)} apply={(n) => put({ capacity: n }, `The capacity is ${count(n)}.`)} />
        <Setting id="phones" label="Seconds that a sleeping phone stays in line" value={now.phone_presence_ttl_s} least={1} button="Set the seconds" step={30} apply={(n) => put({ phone_presence_ttl_s: n }, `A phone stays in line for ${count(n)} seconds of silence.`)} />
      </section>
      <Check now={now} put={put} />
      <Message message={now.message} put={put} />
      <Schedule now={now} put={put} drawn={drawn} />
      <Guests now={now} put={put} />
      <section class="sheet wide" aria-label="Begin anew">
        <h2>Begin anew</h2>
        <div class="row spread">
          <p class="quiet small">A reset ends every place, and the next line starts at nothing. Those inside stay inside.</p>
          <Confirmed
            button="Reset the line" title="Reset the line?" yes="Reset it" word={now.room}
            text={`${plural(now.waiting, "visitor loses the place", "visitors lose their places")} and must join again. This cannot be undone.`}
            apply={reset}
          />
        </div>
      </section>
    </div>
  );
}

function Doors({ now, put }: { now: RoomLive; put: Put }) {
  const auto = (text: string, done: string) => <button class="button primary" type="button" onClick={() => put({ state: "auto" }, done)}>{text}</button>;
  switch (now.state) {
    case "paused":
      return <>{auto("Resume", "The line moves again.")}<p class="quiet small">Nobody is called. Those inside go on, and nobody loses a place.</p></>;
    case "bypass":
      return <>{auto("End the bypass", "Visitors wait their turn again.")}<p class="quiet small">Everyone is let in at once, past the line, the pace and the capacity.</p></>;
    case "closed":
      return <>{auto("Open again", "The room follows its schedule again.")}<p class="quiet small">Nobody can join, and nobody is called.</p></>;
  }
  return (
    <>
      <button class="button stop" type="button" onClick={() => put({ state: "paused" }, "The line is paused. Places are safe.")}>Pause the line</button>
      <p class="quiet small">A pause stops calls at once. Those inside go on, and nobody loses a place.</p>
      <div class="row">
        <Confirmed button="Bypass" title="Let everyone in?" yes="Let everyone in" text="Every visitor gets in at once, past the line, the pace and the capacity. The shop has to carry them all." apply={() => put({ state: "bypass" }, "Everyone is let in.")} />
        <Confirmed button="Close" title="Close the room?" yes="Close it" text="Those who wait are told that the sale is closed. You can open it again; they keep their places." apply={() => put({ state: "closed" }, "The room is closed.")} />
      </div>
    </>
  );
}

/** An act that asks once more, and for the gravest ones the room's name. */
function Confirmed({ button, title, text, yes, word, apply }: { button: string; title: string; text: string; yes: string; word?: string; apply(): Promise<unknown> }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  const open = () => {
    setTyped("");
    dialog.current!.showModal();
  };
  return (
    <>
      <button class="button" type="button" onClick={open}>{button}</button>
      <dialog ref={dialog} aria-label={title}>
        <form method="dialog" class="stack" onSubmit={() => void apply()}>
          <h2>{title}</h2>
          <p>{text}</p>
          {word && <div class="field"><label for="confirm-word">Type <strong>{word}</strong> to go on</label><input id="confirm-word" autocomplete="off" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} /></div>}
          <div class="row">
            <button class="button" type="button" onClick={() => dialog.current!.close()}>No, go back</button>
            <button class="button stop" disabled={!!word && typed !== word}>{yes}</button>
          </div>
        </form>
      </dialog>
    </>
  );
}

/** A number that is set by its button, so that a half-typed one is never in force. */
function Setting({ id, label, value, least, button, step, apply }: { id: string; label: string; value: number; least: number; button: string; step: number; apply(n: number): Promise<unknown> }) {
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

const checks: Record<RoomLive["challenge"], { name: string; done: string }> = {
  auto: { name: "Those who come too often", done: "Only those who come too often are checked." },
  always: { name: "Everyone who joins", done: "Everyone who joins is checked from now on." },
  off: { name: "Nobody", done: "Nobody is checked." },
};

/** Whether newcomers have to compute a proof: what keeps scripts from taking hundreds of places. */
function Check({ now, put }: { now: RoomLive; put: Put }) {
  return (
    <section class="sheet" aria-label="Check against bots">
      <h2>Check against bots</h2>
      <div class="field">
        <label for="challenge">Who is checked</label>
        <select id="challenge" value={now.challenge} onChange={({ currentTarget: { value } }) => void put({ challenge: value }, checks[value as RoomLive["challenge"]].done)}>
          {Object.entries(checks).map(([value, { name }]) => <option key={value} value={value}>{name}</option>)}
        </select>
      </div>
      <p class="quiet small">A browser does it by itself in a moment; a script pays for every place. Choose everyone while a sale is attacked.</p>
    </section>
  );
}

function Message({ message, put }: { message: string | null; put: Put }) {
  const [text, setText] = useState<string | null>(null);
  return (
    <section class="sheet" aria-label="Message">
      <h2>Message</h2>
      <form class="stack" onSubmit={async (e) => {
        e.preventDefault();
        const said = (text ?? message ?? "").trim();
        if (await put({ message: said || null }, said ? "Everyone in line sees the message." : "The message is gone.")) setText(null);
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
