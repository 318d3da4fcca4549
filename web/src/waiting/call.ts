// An open call: how long it still is, a warning before it ends, and more time
// once for who asks (WCAG 2.2.1).
import { ask, path, Problem, type Place } from "../lib/api";
import { clockTime, minutesSeconds } from "../lib/format";
import { el, setText } from "./dom";

/** The warning comes this long before the end, or at half of a shorter call. */
const warnBefore = 60_000;
/** The last word comes this long before the end. */
const lastBefore = 20_000;

export interface Callee {
  /** The call is about to end unused, and nobody is looking. */
  ending(): void;
  /** The place, after more time was given. */
  extended(place: Place): void;
  /** A second of the call has gone. */
  ticked(): void;
}

export class Call {
  private expires = 0;
  /** The server's clock against this one, in ms. */
  private ahead = 0;
  private whole = 0;
  /** How urgently the end was announced already, from 0 to 3. */
  private said = 0;
  private ticker = 0;

  constructor(private readonly room: string, private readonly callee: Callee) {
    el("extend").addEventListener("click", () => void this.extend());
  }

  show(place: Place) {
    if (!place.call_expires_at) return this.hide(); // in bypass a call has no end
    const expires = Date.parse(place.call_expires_at);
    this.ahead = Date.parse(place.now) - Date.now();
    if (expires !== this.expires) {
      this.expires = expires;
      this.whole = expires - Date.parse(place.now);
      this.said = 0;
    }
    const extend = el<HTMLButtonElement>("extend");
    if (!place.call_extendable && document.activeElement === extend) this.enterButton().focus();
    extend.hidden = !place.call_extendable;
    el("call").hidden = false;
    if (!this.ticker) this.ticker = window.setInterval(() => this.tick(), 1000);
    this.tick();
  }

  hide() {
    clearInterval(this.ticker);
    this.ticker = 0;
    this.expires = 0;
    el("call").hidden = true;
    setText("call-said", "");
    setText("urgent", "");
  }

  /** What the tab's title says of the time left, or "". */
  left(): string {
    return this.expires ? minutesSeconds(this.expires - this.ahead - Date.now()) : "";
  }

  private tick() {
    const left = this.expires - this.ahead - Date.now();
    const warn = Math.min(warnBefore, this.whole / 2);
    setText("call-left", minutesSeconds(left));
    el("call").className = left <= warn ? "note warn" : "note";
    // Said aloud at the warning, near the end and at the end, not every second.
    const level = left <= 0 ? 3 : left <= Math.min(lastBefore, warn / 2) ? 2 : left <= warn ? 1 : 0;
    if (level > this.said) {
      this.said = level;
      setText("urgent", left > 0 ? `Only ${Math.round(left / 1000)} seconds left to enter.` : "Your turn has passed.");
    }
    this.callee.ticked();
    if (left <= warn && left > 0 && document.hidden) this.callee.ending();
    if (left > 0) return;
    clearInterval(this.ticker);
    this.ticker = 0;
  }

  private async extend() {
    const button = el<HTMLButtonElement>("extend");
    button.disabled = true;
    try {
      const place = await ask<Place>("POST", path("rooms", this.room, "place", "extend"));
      if (place.call_expires_at) setText("call-said", `You have more time, until ${clockTime(place.call_expires_at)}.`);
      this.enterButton().focus(); // the button that was pressed goes away
      this.callee.extended(place);
    } catch (cause) {
      if (!(cause instanceof Problem)) throw cause;
      setText("call-said", cause.message);
    } finally {
      button.disabled = false;
    }
  }

  private enterButton = () => el("enter").querySelector("button")!;
}
