// A WebSocket that comes back: full-jitter backoff, a pause that the server may
// name in its close reason, and polling while no socket can be had.
import { Problem } from "./api";

export interface LiveOptions<T> {
  path: string;
  protocols?: string[];
  message(document: T): void;
  /** Asked while the socket is away: the document, and the seconds until it may ask again or null. */
  poll(): Promise<{ body: T; pause: number | null }>;
  /** True while documents arrive by the socket. */
  connected?(yes: boolean): void;
  /** The server closed for good: there is nothing more to hear. */
  ended?(reason: string): void;
}

export interface Live { close(): void }

const firstPause = 500;
const longestPause = 15_000;
/** Seconds between polls where the server names none. */
const pollPause = 5;
/** A socket that lasted this long was a good one: the next failure starts the backoff anew. */
const steadyAfter = 10_000;
/** After so long without a word a socket is tried anew when the page is looked at again. */
const silence = 20_000;

export function live<T>(options: LiveOptions<T>): Live {
  let socket: WebSocket | null = null;
  let failures = 0;
  let reconnect = 0;
  let polling = 0;
  let heard = 0;
  let ended = false;

  function connect() {
    reconnect = 0;
    const address = new URL(options.path, location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const opening = new WebSocket(address, options.protocols ?? []);
    socket = opening;
    let opened = 0;
    opening.onopen = () => {
      opened = heard = Date.now();
      clearTimeout(polling);
      polling = 0;
      options.connected?.(true);
    };
    opening.onmessage = (event) => {
      heard = Date.now();
      if (!ended && socket === opening) options.message(JSON.parse(event.data) as T);
    };
    opening.onclose = (event) => {
      if (ended || socket !== opening) return;
      socket = null;
      options.connected?.(false);
      if (event.code === 1000 || event.code === 1008) {
        ended = true;
        options.ended?.(event.reason);
        return;
      }
      failures = opened && Date.now() - opened > steadyAfter ? 0 : failures + 1;
      const asked = pauseAsked(event.reason);
      const backoff = Math.min(longestPause, firstPause * 2 ** Math.min(failures, 6));
      reconnect = window.setTimeout(connect, asked ?? Math.random() * backoff);
      if (failures > 1 && !polling) pollAfter(0);
    };
  }

  function pollAfter(ms: number) {
    polling = window.setTimeout(async () => {
      let pause: number | null = null;
      try {
        const answer = await options.poll();
        // A socket that opened meanwhile has told more than this answer.
        if (!ended && polling) options.message(answer.body);
        pause = answer.pause;
      } catch (cause) {
        // The page says already that it is away; the next round tries again.
        if (cause instanceof Problem) pause = cause.retryAfter;
      }
      if (!ended && polling) pollAfter((pause ?? pollPause) * 1000 * (1 + Math.random() / 5));
    }, ms);
  }

  // A network that comes back, or a tab that is looked at again, need not wait for the
  // backoff; and a socket of before may be dead without knowing it.
  function hurry() {
    if (ended || document.hidden) return;
    const doubtful = socket?.readyState === WebSocket.OPEN && Date.now() - heard > silence;
    if (!reconnect && !doubtful) return;
    if (doubtful) {
      const old = socket!;
      socket = null; // its close is no news any more
      old.close();
      options.connected?.(false);
    }
    clearTimeout(reconnect);
    reconnect = window.setTimeout(connect, Math.random() * firstPause);
  }
  addEventListener("online", hurry);
  addEventListener("pageshow", hurry);
  document.addEventListener("visibilitychange", hurry);

  connect();
  return {
    close() {
      ended = true;
      clearTimeout(reconnect);
      clearTimeout(polling);
      removeEventListener("online", hurry);
      removeEventListener("pageshow", hurry);
      document.removeEventListener("visibilitychange", hurry);
      socket?.close();
    },
  };
}

/** A draining gateway says when to come back: reconnect=1.2s. */
function pauseAsked(reason: string): number | null {
  const found = /^reconnect=(\d+(?:\.\d+)?)s$/.exec(reason);
  return found ? Math.min(60_000, Number(found[1]) * 1000) : null;
}
