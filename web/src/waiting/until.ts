// The countdown to the opening.
import { serverNow } from "../lib/api";
import { el, setText } from "./dom";

const day = 86_400_000;

export class Until {
  private at = 0;
  private ticker = 0;

  /** Counts down to a time less than a day away; null hides it. */
  show(time: string | null) {
    this.at = time ? Date.parse(time) : 0;
    clearInterval(this.ticker);
    if (this.at) this.ticker = window.setInterval(() => this.tick(), 1000);
    this.tick();
  }

  private tick() {
    const left = this.at - serverNow();
    el("until").hidden = !this.at || left <= 0 || left >= day;
    setText("until-left", clock(left));
  }
}

/** 1:02:03, or 2:03 within the hour. */
function clock(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}
