import { useState } from "preact/hooks";
import type { Put, RoomLive } from "./room-live";

/** Who may join by invitation: the keys that sign invitations, as JWKs, one a line. */
export function Guests({ now, put }: { now: RoomLive; put: Put }) {
  const stored = now.invite_keys.map((key) => JSON.stringify(key)).join("\n");
  const [text, setText] = useState<string | null>(null);
  const [only, setOnly] = useState<boolean | null>(null);
  const keys = read(text ?? stored);
  const submit = async (e: SubmitEvent) => {
    e.preventDefault();
    if (!keys) return;
    if (await put({ invite_keys: keys, invite_only: only ?? now.invite_only }, "The guest list's keys are in force.")) {
      setText(null);
      setOnly(null);
    }
  };
  return (
    <section class="sheet wide" aria-label="Invitations">
      <h2>Invitations</h2>
      <form class="stack" onSubmit={submit}>
        <div class="field">
          <label for="invite_keys">Keys that sign invitations, one public JWK (Ed25519) a line</label>
          <textarea id="invite_keys" rows={3} spellcheck={false} value={text ?? stored} aria-invalid={!keys} onInput={(e) => setText(e.currentTarget.value)} />
          {!keys && <span class="fault">Each line must be one JSON object.</span>}
        </div>
        <label class="check"><input id="invite_only" type="checkbox" checked={only ?? now.invite_only} onChange={(e) => setOnly(e.currentTarget.checked)} /> Only the invited may join</label>
        <div class="row"><button class="button" disabled={!keys || (text === null && only === null)}>Save the invitations</button></div>
      </form>
    </section>
  );
}

/** The keys of a text, or null when a line is none. */
function read(text: string): object[] | null {
  try {
    const keys = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line) as unknown);
    return keys.every((key): key is object => typeof key === "object" && key !== null && !Array.isArray(key)) ? keys : null;
  } catch {
    return null;
  }
}
