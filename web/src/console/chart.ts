import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { RoomLive } from "./room-live";

/** Points kept: half an hour of one a second. */
const kept = 1800;

/** Waiting and inside over the last minutes, drawn from the live documents. */
export class Chart {
  private readonly data: [number[], number[], number[]] = [[], [], []];
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
        axes: [{ ...axis, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) , space: 90 }, { ...axis, size: 56 }],
        series: [
          { label: "Time", value: (_, t) => (t ? new Date(t * 1000).toLocaleTimeString("en-GB") : "–") },
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

  add(room: RoomLive) {
    const [times, waiting, inside] = this.data;
    const second = Math.floor(Date.now() / 1000);
    if (times[times.length - 1] === second) {
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
