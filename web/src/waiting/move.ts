// "Continue on another device": loaded when a visitor opens it.
import { correction, generate } from "lean-qr";
import { ask, path, Problem } from "../lib/api";
import { clockTime } from "../lib/format";

export async function offerMove(room: string, returnTo: string, at: HTMLElement): Promise<void> {
  const say = (text: string) => {
    const p = document.createElement("p");
    p.textContent = text;
    at.replaceChildren(p);
  };
  say("One moment …");
  try {
    const { code, expires_at } = await ask<{ code: string; expires_at?: string }>("POST", path("rooms", room, "place", "resume-code"));
    const link = `${location.origin}/rooms/${encodeURIComponent(room)}?return_to=${encodeURIComponent(returnTo)}#resume=${encodeURIComponent(code)}`;
    say("Scan this with the other device, or open the link there. Your place goes along; this device gives it up.");
    const canvas = document.createElement("canvas");
    canvas.className = "qr";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "QR code of the link below");
    generate(link, { minCorrectionLevel: correction.L }).toCanvas(canvas, { on: [0, 0, 0], off: [255, 255, 255], pad: 4 });
    const field = document.createElement("input");
    field.readOnly = true;
    field.value = link;
    field.setAttribute("aria-label", "Link for the other device");
    field.addEventListener("focus", () => field.select());
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "button";
    copy.textContent = "Copy the link";
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(link);
        copy.textContent = "Copied";
      } catch {
        field.focus(); // selected, to be copied by hand
      }
    });
    at.append(canvas, field, copy);
    if (expires_at) {
      const p = document.createElement("p");
      p.className = "quiet small";
      p.textContent = `Good until ${clockTime(expires_at)}, once. Show it to nobody: who opens it has your place.`;
      at.append(p);
    }
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    say(cause.message);
  }
}
