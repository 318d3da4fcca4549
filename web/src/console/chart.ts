import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Figures, RoomLive } from "./room-live";

/** Points kept: an hour of one a second. */
const kept = 3600;

/** Waiting and inside over time: the history, and the live documents after it. */
export class Chart {
  private data: [number[], number[], number[]] = [[], [], []];
  private readonly plot: uPlot;
  private readonly resized: ResizeObserver;

  constructor(private readonly at: HTMLElement) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    this.plot = new uPlot(
      {
        width: at.clientWidth || 600,
        height: 200,
        scales: { y: { range: (_, __, high) => [0, Math.max(10, high * 1.1)] } },
        axes: [{ ...axis, values: (_, at) => at.map((t) => said(t, at[at.length - 1]! - at[0]!)), space: 90 }, { ...axis, size: 56 }],
        series: [
          { label: "Time", value: (_, t) => (t ? new Date(t * 1000).toLocaleString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "–") },
          { label: "Waiting", stroke: colour("--warn"), width: 2, points: { show: false } },
          { label: "Inside", stroke: colour("--go"), width: 2, points: { show: false } },
        ],
      },
      this.data,
      at,
    );
    this.resized = new ResizeObserver(() => this.plot.setSize({ width: at.clientWidth, height: 200 }));
    this.resized.observe(at);
  }

  /** Begins anew with what was recorded, oldest first. */
  load(figures: Figures[]) {
    this.data = [figures.map((f) => Math.floor(Date.parse(f.at) / 1000)), figures.map((f) => f.waiting), figures.map((f) => f.sessions)];
    this.plot.setData(this.data);
  }

  add(room: RoomLive) {
    const [times, waiting, inside] = this.data;
    const second = Math.floor(Date.parse(room.now) / 1000);
    if (times[times.length - 1]! >= second) {
      waiting[waiting.length - 1] = room.waiting;
      inside[inside.length - 1] = room.sessions;
    } else {
      times.push(second);
      waiting.push(room.waiting);
      inside.push(room.sessions);
      if (times.length > kept) this.data.forEach((series) => series.shift());
    }
    this.plot.setData(this.data);
  }

  destroy() {
    this.resized.disconnect();
    this.plot.destroy();
    this.at.replaceChildren();
  }
}

/** A mark of the time axis: to the second within a quarter of an hour, with the day over more than a day. */
function said(t: number, span: number): string {
  const at = new Date(t * 1000);
  if (span > 86_400) return at.toLocaleDateString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(span < 900 ? { second: "2-digit" } : {}) });
}
