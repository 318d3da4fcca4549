// One socket a browser: the tab that is looked at takes the room's lock and
// holds the socket, and the others hear what it hears. A tab that a phone has
// frozen loses the lock to the one that is opened next.
import { live, type Live, type LiveOptions } from "../lib/live";

type Word<T> = { document: T } | { connected: boolean } | { ended: string };

/** Like live, for all tabs of this browser with the same name together. Without the browser's help (plain http) each tab is alone. */
export function shared<T>(name: string, options: LiveOptions<T>): Live {
  if (!navigator.locks || !("BroadcastChannel" in globalThis)) return live(options);
  const channel = new BroadcastChannel(name);
  let own: Live | null = null;
  let release = () => {};
  let waiting: AbortController | null = null;
  let closed = false;
  const tell = (word: Word<T>) => channel.postMessage(word);

  function lead() {
    own = live<T>({
      ...options,
      message(document) {
        options.message(document);
        if (!closed) tell({ document });
      },
      connected(yes) {
        options.connected?.(yes);
        if (!closed) tell({ connected: yes });
      },
      ended(reason) {
        tell({ ended: reason });
        close();
        options.ended?.(reason);
      },
    });
    return new Promise<void>((done) => (release = done));
  }

  /** Waits for the lock, or takes it at once from the tab that has it. */
  function ask(steal: boolean) {
    waiting?.abort();
    waiting = steal ? null : new AbortController();
    navigator.locks.request(name, waiting ? { signal: waiting.signal } : { steal: true }, () => (closed ? undefined : lead())).catch(() => {
      if (!own) return; // this tab gave up waiting
      own.close(); // another tab is looked at now
      own = null;
      if (!closed) ask(false);
    });
  }

  function looked() {
    if (!document.hidden && !own && !closed) ask(true);
  }

  function close() {
    closed = true;
    document.removeEventListener("visibilitychange", looked);
    waiting?.abort();
    own?.close();
    release();
    channel.close();
  }

  channel.onmessage = ({ data }: MessageEvent<Word<T>>) => {
    if (closed) return;
    if ("document" in data) options.message(data.document);
    else if ("connected" in data) options.connected?.(data.connected);
    else {
      close();
      options.ended?.(data.ended);
    }
  };
  document.addEventListener("visibilitychange", looked);
  ask(!document.hidden);
  return { close };
}
