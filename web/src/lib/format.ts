import type { Money } from "./api";

const wholeNumbers = new Intl.NumberFormat("en");
const daysAndTimes = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" });
const times = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const dates = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric" });

export const count = (n: number) => wholeNumbers.format(n);

const currencies = new Map<string, Intl.NumberFormat>();

export function money({ amount, currency }: Money): string {
  let format = currencies.get(currency);
  if (!format) {
    format = new Intl.NumberFormat("en", { style: "currency", currency });
    currencies.set(currency, format);
  }
  const digits = format.resolvedOptions().maximumFractionDigits ?? 2;
  const text = format.format(amount / 10 ** digits);
  return amount % 10 ** digits === 0 && digits > 0 ? text.replace(/[.,]0+$/, "") : text;
}

export const dayAndTime = (iso: string) => daysAndTimes.format(new Date(iso));
export const clockTime = (iso: string) => times.format(new Date(iso));
export const day = (iso: string) => dates.format(new Date(iso));

/** When something starts, said from now: the time alone if it is within today. */
export function startsAt(iso: string, now = new Date()): string {
  const at = new Date(iso);
  return at.toDateString() === now.toDateString() ? `at ${times.format(at)}` : `on ${daysAndTimes.format(at)}`;
}

/** 4:05 left of a countdown. */
export function minutesSeconds(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

/** An honest band: rough numbers, never a single one, wider words as the wait grows. The page rendered by Go says the same. */
export function band(low: number, high: number): string {
  if (high < 60) return "less than a minute";
  const [unit, seconds] = high < 5400 ? ["minutes", 60] : ["hours", 3600];
  const from = Math.floor(low / seconds);
  const to = Math.ceil(high / seconds);
  if (unit === "hours" && to > 24) return "more than a day";
  if (from < 1) return to === 1 ? "about a minute" : `up to ${to} ${unit}`;
  return from === to ? `about ${to} ${unit}` : `${from} to ${to} ${unit}`;
}

export const plural = (n: number, one: string, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;
