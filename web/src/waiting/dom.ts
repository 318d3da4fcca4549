export const el = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;

/** Text is only touched when it changes, so that screen readers hear changes alone. */
export function setText(id: string, text: string) {
  if (el(id).textContent !== text) el(id).textContent = text;
}
