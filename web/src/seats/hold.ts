import { useEffect, useState } from "preact/hooks";
import { ask, type Hold } from "../lib/api";

/**
 * The tab's hold of a performance: taken, replaced, let go, and found again after a reload.
 * `found` is told once what an earlier visit of this tab left, or null.
 */
export function useHold(base: string, performance: string, found: (hold: Hold | null) => void) {
  const [hold, setHold] = useState<Hold | null>(null);
  const [busy, setBusy] = useState(false);
  const kept = `usher-hold ${performance}`;

  const own = (got: Hold) => {
    sessionStorage.setItem(kept, got.id);
    setHold(got);
  };
  const forget = () => {
    sessionStorage.removeItem(kept);
    setHold(null);
  };

  useEffect(() => {
    const id = sessionStorage.getItem(kept);
    if (!id) return found(null);
    ask<Hold>("GET", `${base}/holds/${encodeURIComponent(id)}`).then((got) => {
      own(got);
      found(got);
    }, () => {
      forget();
      found(null);
    });
  }, []);

  return {
    hold,
    busy,
    /** It is over. */
    forget,
    /** An order was made of it: this page is left, and a later visit must not look for it. */
    ordered: () => sessionStorage.removeItem(kept),
    /** Locks what is wished for, in place of what was held before; throws the Problem. */
    async take(wish: object): Promise<Hold> {
      setBusy(true);
      try {
        const got = await ask<Hold>("POST", base + "/holds", { body: { ...wish, ...(hold ? { replace: hold.id } : {}) } });
        own(got);
        return got;
      } finally {
        setBusy(false);
      }
    },
    async letGo() {
      const left = hold;
      forget();
      if (left) await ask("DELETE", `${base}/holds/${encodeURIComponent(left.id)}`).catch(() => {}); // it ends by itself
    },
  };
}
