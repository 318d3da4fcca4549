// A sound and a notice for who looks elsewhere when called.
import { el } from "./dom";

let bell: AudioContext | null = null;

export function hangBell() {
  el("bell").addEventListener("click", () => {
    bell ??= new AudioContext();
    ring("");
    if ("Notification" in globalThis && Notification.permission === "default") void Notification.requestPermission();
    el("bell").textContent = "Sound is on";
    (el("bell") as HTMLButtonElement).disabled = true;
  });
}

/** Sounds if the visitor asked for it, and with a text also says it outside of the page when nobody looks. */
export function ring(text: string) {
  if (!bell) return;
  for (const [i, frequency] of [659, 880].entries()) {
    const tone = bell.createOscillator();
    const volume = bell.createGain();
    const at = bell.currentTime + i * 0.25;
    tone.frequency.value = frequency;
    volume.gain.setValueAtTime(0.15, at);
    volume.gain.exponentialRampToValueAtTime(0.001, at + 0.6);
    tone.connect(volume).connect(bell.destination);
    tone.start(at);
    tone.stop(at + 0.6);
  }
  if (!text || !document.hidden || !("Notification" in globalThis) || Notification.permission !== "granted") return;
  try {
    new Notification(text, { tag: "usher-call" }).onclick = () => window.focus();
  } catch {
    // Chrome on Android shows none without a service worker; the sound has to do.
  }
}
