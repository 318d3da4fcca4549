// "Check my rank": loaded when a visitor opens it. Everything is recomputed here;
// the gateway only hands out the published values.
import { ask, path, Problem, type Place } from "../lib/api";
import { count } from "../lib/format";
import { verify, type DrawRecord, type Finding, type Receipt, type Verdict } from "./draw";
import { keptReceipt } from "./receipt";

const headlines: Record<Verdict, string> = {
  fair: "The draw was fair",
  consistent: "The draw is consistent",
  wrong: "Something does not match",
};

const meanings: Record<Verdict, string> = {
  fair: "Your rank follows from values that were promised before the draw, and from public randomness that nobody could know before the lobby closed.",
  consistent: "Your rank follows from values that were promised before the draw. Whoever held the secret could have worked out the order beforehand, so this does not prove that the draw was fair.",
  wrong: "Your rank does not follow from the values that were promised. Please save your receipt and show it to the organiser.",
};

export async function checkRank(place: Place, at: HTMLElement): Promise<void> {
  if (!globalThis.crypto?.subtle) return say(at, "This browser can check it only over a secure connection (https).");
  say(at, "Checking …");
  try {
    const draw = await ask<DrawRecord>("GET", path("rooms", place.room, "draw"));
    const kept = keptReceipt(place.room);
    const before = kept?.epoch === place.epoch && kept.number === place.number ? kept.receipt : null;
    const signed = before ?? (await ask<{ receipt: string }>("GET", path("rooms", place.room, "place", "receipt"))).receipt;
    const receipt = readReceipt(signed);
    const { findings, rank, verdict } = await verify(draw, receipt, place.rank ?? -1);
    const genuine = await signedBySite(signed);
    if (genuine !== null) findings.unshift({ check: "Your receipt is signed by this site", ok: genuine });
    findings.unshift({ check: "Your receipt is for this place", ok: receipt.room === place.room && receipt.epoch === place.epoch && receipt.number === place.number });
    show(at, { draw, findings, rank, signed, before: before !== null, verdict: findings.some((f) => !f.ok) ? "wrong" : verdict, receipt });
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    say(at, cause.code === "no-draw" ? "There was no draw in this room: whoever joined first goes first." : cause.message);
  }
}

interface Outcome { draw: DrawRecord; receipt: Receipt; findings: Finding[]; rank: number; signed: string; before: boolean; verdict: Verdict }

function show(at: HTMLElement, { draw, receipt, findings, rank, signed, before, verdict }: Outcome) {
  const headline = make("h3", headlines[verdict]);
  headline.tabIndex = -1;
  const list = make("ul");
  list.className = "findings";
  for (const { check, ok } of findings) {
    const item = make("li", check);
    item.className = ok ? "" : "wrong";
    item.prepend(make("b", ok ? "Yes. " : "No. "));
    list.append(item);
  }
  const said: HTMLElement[] = [headline, make("p", meanings[verdict])];
  if (verdict !== "wrong") {
    said.push(make("p", receipt.number >= draw.lobby_size
      ? `You came after the draw of ${count(draw.lobby_size)}, so your place follows your arrival: ${count(rank + 1)}.`
      : `You were number ${count(receipt.number + 1)} to arrive and were drawn to place ${count(rank + 1)} of ${count(draw.lobby_size)}.`));
  }
  said.push(list);
  if (draw.beacon_source && verdict === "fair") {
    const link = make("a", `round ${count(draw.beacon_source.round)}`);
    link.href = `${draw.beacon_source.url.replace(/\/$/, "")}/public/${draw.beacon_source.round}`;
    link.rel = "noreferrer";
    link.target = "_blank";
    const compare = make("p", "That is so provided that the public source says the same: compare ");
    compare.append(link, ".");
    said.push(compare);
  }
  if (!before) said.push(make("p", "This browser asked for your receipt only now, after the draw. One that was kept from before proves more."));
  const save = make("a", "Save my receipt");
  save.href = URL.createObjectURL(new Blob([JSON.stringify({ receipt: signed })], { type: "application/json" }));
  save.download = `receipt-${receipt.room}.json`;
  save.className = "button";
  said.push(save);
  at.className = `stack verdict ${verdict}`;
  at.replaceChildren(...said);
  headline.focus();
}

function readReceipt(signed: string): Receipt {
  const claims = JSON.parse(new TextDecoder().decode(fromBase64(signed.split(".")[1]!))) as { sub: string; epoch: string; number: number; commitment: string };
  return { room: claims.sub, epoch: claims.epoch, number: claims.number, commitment: claims.commitment };
}

/** Whether one of the site's published keys signed it; null where the browser cannot tell. */
async function signedBySite(signed: string): Promise<boolean | null> {
  const [head, body, signature] = signed.split(".") as [string, string, string];
  const { kid } = JSON.parse(new TextDecoder().decode(fromBase64(head))) as { kid: string };
  const { keys } = await ask<{ keys: (JsonWebKey & { kid: string })[] }>("GET", "/.well-known/jwks.json");
  const found = keys.find((key) => key.kid === kid);
  if (!found) return false;
  let key: CryptoKey;
  try {
    key = await crypto.subtle.importKey("raw", fromBase64(found.x!), { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null; // a browser without Ed25519
  }
  return crypto.subtle.verify({ name: "Ed25519" }, key, fromBase64(signature), new TextEncoder().encode(`${head}.${body}`));
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}

function make<K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function say(at: HTMLElement, text: string) {
  at.className = "stack verdict";
  at.replaceChildren(make("p", text));
}
