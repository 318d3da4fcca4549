import type { Phase } from "../lib/api";

/** A room as operators see it: its settings and its figures. */
export interface RoomLive {
  room: string;
  title: string;
  phase: Phase;
  state: "auto" | "open" | "paused" | "closed" | "bypass";
  epoch: string;
  method: "fifo" | "draw";
  beacon: string;
  /** A drand chain that the beacon comes from, and why it cannot be had. */
  beacon_url: string;
  beacon_fault?: string;
  lobby_at: string | null;
  opens_at: string | null;
  closes_at: string | null;
  /** While a restored room calls nobody. */
  quiet_until?: string | null;
  message: string | null;
  phone_presence_ttl_s: number;
  challenge: "auto" | "always" | "off";
  invite_keys: object[];
  invite_only: boolean;
  pace_per_min: number;
  capacity: number;
  waiting: number;
  present: number;
  called: number;
  sessions: number;
  admitted_total: number;
  missed: number;
  lapsed: number;
  left: number;
  pace_actual_per_min: number;
  now: string;
  origin_status?: { health: string; latency_ms: number; in_flight: number } | null;
  pace_limited_by?: { reason: "slow" | "failing" | "busy" | "down"; share: number; pace_per_min: number } | null;
}

export type Settings = Partial<Record<keyof RoomLive, unknown>>;
/** Changes the room and says so; false when it was refused, which is said, too. */
export type Put = (settings: Settings, done: string) => Promise<boolean>;

/** A room's figures at one moment of its history. */
export interface Figures { at: string; waiting: number; sessions: number; called: number }

/** What a room does, in a word and a colour. */
export function stateOf(room: Pick<RoomLive, "phase" | "state">): { text: string; tone: string } {
  if (room.state === "bypass") return { text: "bypass: everyone is let in", tone: "warn" };
  switch (room.phase) {
    case "open": return { text: "open", tone: "" };
    case "paused": return { text: "paused", tone: "warn" };
    case "lobby": return { text: "lobby", tone: "" };
    case "scheduled": return { text: "scheduled", tone: "off" };
    case "closed": return { text: "closed", tone: "stop" };
    case "sold_out": return { text: "sold out", tone: "stop" };
  }
}
