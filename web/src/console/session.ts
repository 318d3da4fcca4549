// The operator's session: a cookie that this script cannot read, and the CSRF
// token that goes with every change.
import { ask } from "../lib/api";

export interface Session { name: string; role: string; csrf: string }

let csrf = "";

const keep = (session: Session) => {
  csrf = session.csrf;
  return session;
};

export const current = () => ask<Session>("GET", "/api/v1/operate/session").then(keep);
export const signIn = (email: string, password: string) => ask<Session>("POST", "/api/v1/operate/session", { body: { email, password } }).then(keep);
export const signOut = () => change("DELETE", "/api/v1/operate/session");

export function change<T>(method: string, at: string, body?: unknown): Promise<T> {
  return ask<T>(method, at, { body, headers: { "x-csrf-token": csrf } });
}
