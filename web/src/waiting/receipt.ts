// The receipt that this browser keeps from the lobby: what was promised before the draw.
import { ask, path, type Place } from "../lib/api";

export interface Kept { epoch: string; number: number; receipt: string }

/** Spread of the one request a visitor makes for it, so that a full lobby does not ask at once. */
const spread = 20_000;

const nameOf = (room: string) => `usher-receipt ${room}`;
let asked = "";

export function keptReceipt(room: string): Kept | null {
  try {
    return JSON.parse(localStorage.getItem(nameOf(room)) ?? "null") as Kept | null;
  } catch {
    return null;
  }
}

/** Keeps the receipt of a place in the lobby, once. */
export function keepReceipt(place: Place) {
  const kept = keptReceipt(place.room);
  if (asked === place.epoch || (kept?.epoch === place.epoch && kept.number === place.number)) return;
  asked = place.epoch;
  setTimeout(async () => {
    try {
      const { receipt } = await ask<{ receipt: string }>("GET", path("rooms", place.room, "place", "receipt"));
      localStorage.setItem(nameOf(place.room), JSON.stringify({ epoch: place.epoch, number: place.number, receipt }));
    } catch {
      asked = ""; // the next document tries again
    }
  }, Math.random() * Math.min(spread, place.opens_at ? Math.max(0, Date.parse(place.opens_at) - Date.parse(place.now)) / 2 : spread));
}
