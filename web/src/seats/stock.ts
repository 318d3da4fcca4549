// What is free, live. A snapshot replaces everything; deltas follow it without gaps.
import { ask, Problem } from "../lib/api";
import { live, type Live } from "../lib/live";

export const Free = 0;
export const Held = 1;
export const Sold = 2;
export const Blocked = 3;

interface Snapshot { version: number; seats: string; areas: { id: string; free: number }[] }
interface Delta { version: number; changes: [number, number][]; areas?: { id: string; free: number }[] }

export class Stock {
  readonly seats: Uint8Array;
  readonly areas = new Map<string, number>();
  private version = -1;
  private socket: Live | null = null;
  private readonly base: string;
  private readonly changed: () => void;
  private readonly refused: (problem: Problem) => void;

  /** `changed` is told after each update, `refused` when the pass no longer lets us look. */
  constructor(seats: number, base: string, changed: () => void, refused: (problem: Problem) => void) {
    this.seats = new Uint8Array(seats);
    this.base = base;
    this.changed = changed;
    this.refused = refused;
  }

  async start(): Promise<void> {
    this.apply(await this.load());
    this.socket = live<Snapshot | Delta>({
      path: this.base + "/availability/ws",
      message: (document) => this.apply(document),
      ended: () => this.reload(), // the answer says whether the pass is over
      poll: async () => ({ body: await this.load(), pause: 3 }),
    });
  }

  stop() {
    this.socket?.close();
  }

  private reload() {
    this.load().then((snapshot) => this.apply(snapshot), () => {}); // without an answer the socket's next snapshot mends it
  }

  private async load(): Promise<Snapshot> {
    try {
      return await ask<Snapshot>("GET", this.base + "/availability");
    } catch (cause) {
      if (cause instanceof Problem && cause.status === 403) this.refused(cause);
      throw cause;
    }
  }

  private apply(document: Snapshot | Delta) {
    if ("seats" in document) {
      const bytes = atob(document.seats);
      for (let i = 0; i < Math.min(bytes.length, this.seats.length); i++) this.seats[i] = bytes.charCodeAt(i);
      this.areas.clear();
    } else {
      if (document.version <= this.version) return;
      if (document.version !== this.version + 1) return this.reload();
      for (const [index, state] of document.changes) if (index < this.seats.length) this.seats[index] = state;
    }
    this.version = document.version;
    for (const { id, free } of document.areas ?? []) this.areas.set(id, free);
    this.changed();
  }
}
