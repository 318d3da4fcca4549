// What this tab remembers of its orders: the access to each, and the
// idempotency key of an attempt, so that trying again cannot buy twice.
import type { Order } from "./api";

const nameOf = (event: string, id: string) => `usher-order ${event} ${id}`;

export function rememberAccess(event: string, id: string, access: string) {
  try {
    sessionStorage.setItem(nameOf(event, id), access);
  } catch {
    // A tab without a store still has the link in the e-mail.
  }
}

export function accessOf(event: string, id: string): string | null {
  const fragment = decodeURIComponent(location.hash.slice(1)).replace(/^access=/, "");
  if (fragment) {
    rememberAccess(event, id, fragment);
    return fragment;
  }
  try {
    return sessionStorage.getItem(nameOf(event, id));
  } catch {
    return null;
  }
}

const openOrder = (event: string) => `usher-open-order ${event}`;

/** The order of this tab that may still be paid, so that the way back from the payment finds it. */
export const rememberOpenOrder = (event: string, id: string) => sessionStorage.setItem(openOrder(event), id);
export const openOrderOf = (event: string) => sessionStorage.getItem(openOrder(event));
export function orderIsOver(event: string, id: string) {
  if (openOrderOf(event) === id) sessionStorage.removeItem(openOrder(event));
}

/** Where the payer goes, if anywhere. The sandbox is part of this site, whatever name the browser knows the site by; under that name this tab keeps its access. */
export function wayToPay(order: Order): string | null {
  const to = order.payment?.redirect_url;
  if (!to) return null;
  const { pathname } = new URL(to, location.href);
  return order.test && pathname.startsWith("/sandbox/") ? pathname : to;
}

const attempt = (hold: string) => `usher-attempt ${hold}`;

/** A final refusal would be repeated under the same key: the next attempt takes a new one. */
export const attemptIsOver = (hold: string) => sessionStorage.removeItem(attempt(hold));

/** The same attempt keeps its key across retries and reloads; another body is another attempt. */
export function attemptKey(hold: string, body: unknown): string {
  const name = attempt(hold);
  const text = JSON.stringify(body);
  const kept = sessionStorage.getItem(name);
  if (kept) {
    const [key, of] = JSON.parse(kept) as [string, string];
    if (of === text) return key;
  }
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem(name, JSON.stringify([key, text]));
  return key;
}
