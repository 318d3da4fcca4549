import { useCallback, useEffect, useState } from "preact/hooks";
import { serverNow } from "./api";

/** Loads once per key and again on demand; the last good value stays while a reload fails. */
export function useLoaded<T>(load: () => Promise<T>, key: string) {
  const [value, setValue] = useState<T | null>(null);
  const [cause, setCause] = useState<unknown>(null);
  const again = useCallback(() => {
    setCause(null);
    load().then(setValue, setCause);
  }, [key]);
  useEffect(again, [again]);
  return { value, cause, again };
}

/** The present time by the server's clock, once a second while `running`. */
export function useNow(running: boolean): number {
  const [now, setNow] = useState(serverNow());
  useEffect(() => {
    if (!running) return;
    setNow(serverNow());
    const ticker = setInterval(() => setNow(serverNow()), 1000);
    return () => clearInterval(ticker);
  }, [running]);
  return now;
}
