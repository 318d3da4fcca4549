// The check before a place: loaded only when the room asks for one. ALTCHA's widget
// computes in workers of their own files, as the page's policy wants it.
import "altcha/external";
import look from "altcha/altcha.css?url";
import worker from "altcha/workers/pbkdf2?url";

export interface Offer {
  provider: string;
  parameters?: unknown;
  signature?: string;
  site_key?: string;
  action?: string;
}

/** Assets stand beside this script: a protected host gives Usher only /rooms. */
const beside = (built: string) => new URL(built.slice(built.lastIndexOf("/") + 1), import.meta.url).href;

let prepared = false;

function prepare() {
  if (prepared) return;
  prepared = true;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = beside(look);
  document.head.append(link);
  $altcha.algorithms.set("PBKDF2/SHA-256", () => new Worker(beside(worker)));
}

/** Resolves with the answer; rejects where this browser cannot give one. */
export function prove(at: HTMLElement, offer: Offer): Promise<string> {
  if (offer.provider !== "altcha") return outside(at, offer);
  if (!globalThis.crypto?.subtle) return Promise.reject(new Error("no WebCrypto"));
  prepare();
  return new Promise((resolve, reject) => {
    const widget = document.createElement("altcha-widget");
    widget.addEventListener("statechange", (event) => {
      const { state, payload } = (event as CustomEvent<{ state: string; payload: string }>).detail;
      if (state === "verified") resolve(payload);
      if (state === "error" || state === "expired") reject(new Error(state));
    });
    // Its methods are there once it has loaded.
    const begin = async () => {
      await widget.configure({ challenge: { parameters: offer.parameters, signature: offer.signature } as never, hideFooter: true, humanInteractionSignature: false, minDuration: 0, timeout: 540_000 });
      await widget.verify();
    };
    widget.addEventListener("load", () => void begin().catch(reject), { once: true });
    at.replaceChildren(widget);
  });
}

interface Service { render(at: HTMLElement, options: Record<string, unknown>): unknown }

const scripts: Record<string, string> = {
  turnstile: "https://challenges.cloudflare.com/turnstile/v0/api.js?render=explicit",
  hcaptcha: "https://js.hcaptcha.com/1/api.js?render=explicit",
};

function outside(at: HTMLElement, { provider, site_key, action }: Offer): Promise<string> {
  return new Promise((resolve, reject) => {
    const render = () => {
      const box = document.createElement("div");
      at.replaceChildren(box);
      const service = (globalThis as unknown as Record<string, Service>)[provider]!;
      service.render(box, { sitekey: site_key, action, callback: resolve, "error-callback": reject });
    };
    if (provider in globalThis) return render();
    const script = document.createElement("script");
    script.src = scripts[provider] ?? "";
    script.addEventListener("load", render);
    script.addEventListener("error", reject);
    document.head.append(script);
  });
}
