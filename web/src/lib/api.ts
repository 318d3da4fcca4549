// The documents of the API as the pages read them, and the one way to ask for them.

export interface Money { amount: number; currency: string }

export interface Place {
  room: string;
  epoch: string;
  number: number;
  phase: Phase;
  state: "lobby" | "waiting" | "called" | "admitted" | "missed" | "lapsed" | "left";
  rank: number | null;
  position: number | null;
  ahead: number | null;
  waiting: number;
  progress: number;
  eta_s: { low: number; high: number } | null;
  /** Why the estimate slips, where it does. */
  eta_reason?: string | null;
  call_expires_at: string | null;
  /** Whether the visitor may still ask for more time, once a call. */
  call_extendable: boolean;
  pass_expires_at: string | null;
  message: string | null;
  lobby_at: string | null;
  opens_at: string | null;
  now: string;
}

export type Phase = "scheduled" | "lobby" | "open" | "paused" | "closed" | "sold_out";

export interface Room {
  room: string;
  title: string;
  phase: Phase;
  lobby_at: string | null;
  opens_at: string | null;
  waiting: number;
  present: number;
  message: string | null;
  draw: { commitment: string; beacon: string; beacon_url?: string; round?: number; round_at?: string; lobby_size?: number; secret?: string; seed?: string };
}

export interface EventSummary { slug: string; title: string; venue_name: string; status: string; performances: { id: string; starts_at: string; status: string }[]; categories: { name: string; price: Money }[] }

export interface Event extends EventSummary {
  currency: string;
  room: string | null;
  limits: { max_seats_per_session: number };
}

export interface Hold {
  id: string;
  seats: number[];
  areas: { id: string; quantity: number }[];
  total: Money;
  expires_at: string;
}

export interface Ticket { id: string; seat_label: string; area?: string; code: string; qr_url: string }

export interface Order {
  id: string;
  title: string;
  test: boolean;
  state: "pending" | "paid" | "expired" | "cancelled" | "refunding" | "refunded";
  total: Money;
  expires_at: string;
  payment?: { id: string; redirect_url?: string };
  access?: string;
  tickets?: Ticket[];
}

/** A refused or failed call. `code` is the problem's; "unreachable" when there was no answer. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly body: Record<string, unknown>;
  /** Seconds that the server asked us to wait, or null. */
  readonly retryAfter: number | null;

  constructor(status: number, body: Record<string, unknown>, retryAfter: number | null) {
    super(String(body.detail ?? body.title ?? "The box office did not answer."));
    this.status = status;
    this.code = String(body.code ?? "unreachable");
    this.body = body;
    this.retryAfter = retryAfter;
  }

  /** What is wrong with which field, where the server says so. */
  get faults() {
    return (this.body.errors ?? []) as { location: string; message: string }[];
  }
}

export interface Asking {
  body?: unknown;
  headers?: Record<string, string>;
}

export async function ask<T>(method: string, path: string, asking: Asking = {}): Promise<T> {
  const { answer } = await send(method, path, asking);
  if (answer.status === 204) return undefined as T;
  return (await answer.json()) as T;
}

/** Like ask, with the seconds after which the server wants to be asked again. */
export async function askWithPause<T>(path: string): Promise<{ body: T; pause: number | null }> {
  const { answer, pause } = await send("GET", path, {});
  return { body: (await answer.json()) as T, pause };
}

async function send(method: string, path: string, { body, headers }: Asking) {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: {
        accept: "application/json, application/problem+json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new Problem(0, { title: "No connection to the box office. Please check your network." }, null);
  }
  if (method !== "GET" || answer.headers.get("cache-control")?.includes("no-store")) setClock(answer.headers.get("date"));
  const pause = seconds(answer.headers.get("retry-after"));
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({ title: answer.statusText }));
    throw new Problem(answer.status, problem, pause);
  }
  return { answer, pause };
}

// Deadlines are the server's, and clocks of phones and laptops are often minutes off.
let ahead = 0;

function setClock(date: string | null) {
  const at = date ? Date.parse(date) : NaN;
  if (Number.isFinite(at)) ahead = at + 500 - Date.now(); // the header is cut to its second
}

/** The present time by the server's clock, as its last fresh answer told it. */
export const serverNow = () => Date.now() + ahead;

function seconds(header: string | null): number | null {
  const n = Number(header);
  return header !== null && Number.isFinite(n) ? n : null;
}

/** Where a visitor without a pass goes: the waiting room of the problem, and back here after. */
export function waitingRoom(problem: Problem): string | null {
  if (problem.code !== "pass-required") return null;
  const room = String(problem.body.room ?? "");
  if (!room) return null;
  // An invitation travels in the fragment of whatever link the visitor was given.
  const invite = location.hash.startsWith("#invite=") ? location.hash : "";
  return `/rooms/${encodeURIComponent(room)}?return_to=${encodeURIComponent(location.pathname)}${invite}`;
}

export const path = (...parts: string[]) => "/api/v1/" + parts.map(encodeURIComponent).join("/");
