import { useState } from "preact/hooks";
import type { Put, RoomLive, Settings } from "./room-live";

const times = [
  { name: "lobby_at", label: "The lobby opens" },
  { name: "opens_at", label: "The line starts" },
  { name: "closes_at", label: "The room closes" },
] as const;

type Texts = Record<(typeof times)[number]["name"] | "method" | "beacon" | "beacon_url", string>;

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** When the room opens and how its order is made. Only what was changed is sent. */
export function Schedule({ now, put, drawn }: { now: RoomLive; put: Put; drawn: boolean }) {
  const [typed, setTyped] = useState<Partial<Texts>>({});
  const [busy, setBusy] = useState(false);
  const stored: Texts = { lobby_at: local(now.lobby_at), opens_at: local(now.opens_at), closes_at: local(now.closes_at), method: now.method, beacon: now.beacon, beacon_url: now.beacon_url };
  const shown = { ...stored, ...typed };
  const changed = (Object.keys(typed) as (keyof Texts)[]).filter((name) => typed[name] !== stored[name]);
  const type = (name: keyof Texts) => ({ currentTarget: { value } }: { currentTarget: { value: string } }) => setTyped((before) => ({ ...before, [name]: value }));
  const submit = async (e: SubmitEvent) => {
    e.preventDefault();
    const settings: Settings = {};
    for (const name of changed) {
      const text = typed[name]!;
      settings[name] = name === "method" || name.startsWith("beacon") ? text : text ? new Date(text).toISOString() : null;
    }
    if (settings.beacon_url && shown.beacon) settings.beacon = ""; // one of the two
    setBusy(true);
    if (await put(settings, "The schedule is in force.")) setTyped({});
    setBusy(false);
  };
  return (
    <section class="sheet wide" aria-label="Schedule">
      <h2>Schedule</h2>
      {now.beacon_url && now.beacon_fault && (
        <div class="note stop stack" role="alert">
          <p>The beacon of the draw cannot be had: {now.beacon_fault}. It is asked again every second; past the opening the room is paused until then. Without it the draw is consistent, not fair.</p>
          <div class="row"><button class="button" type="button" onClick={() => void put({ beacon_url: null }, "The draw goes on without the beacon.")}>Draw without the beacon</button></div>
        </div>
      )}
      <form class="stack" onSubmit={submit}>
        <div class="times">
          {times.map(({ name, label }) => (
            <div class="field" key={name}>
              <label for={name}>{label}</label>
              <input id={name} type="datetime-local" step="1" value={shown[name]} disabled={drawn && name !== "closes_at"} onInput={type(name)} />
            </div>
          ))}
          <div class="field">
            <label for="method">The order</label>
            <select id="method" value={shown.method} disabled={drawn} onChange={type("method")}>
              <option value="fifo">First come, first served</option>
              <option value="draw">Drawn among the lobby</option>
            </select>
          </div>
          {shown.method === "draw" && (
            <>
              <div class="field">
                <label for="beacon_url">Beacon from a drand chain</label>
                <input id="beacon_url" type="url" maxLength={300} value={shown.beacon_url} disabled={drawn} onInput={type("beacon_url")} placeholder="https://api.drand.sh/…" autocomplete="off" />
              </div>
              <div class="field">
                <label for="beacon">Or a text</label>
                <input id="beacon" maxLength={200} value={shown.beacon} disabled={drawn || shown.beacon_url !== ""} onInput={type("beacon")} autocomplete="off" />
              </div>
            </>
          )}
        </div>
        <p class="quiet small">
          Times of {zone}. An empty one does not apply. {drawn
            ? "The draw was made, so its times and its method stand until a reset."
            : shown.method === "draw" && "The beacon goes into the draw. With a round of a drand chain, which nobody can know before the lobby ends, the draw is fair; with a text, or none, it is consistent: nobody can change it, but whoever holds the secret could know it."}
        </p>
        <div class="row"><button class="button" disabled={busy || changed.length === 0}>Save the schedule</button></div>
      </form>
    </section>
  );
}

/** A time as the field wants it: of this browser's zone, to the second. */
function local(iso: string | null): string {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
