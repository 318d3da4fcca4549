// The waiting page without a framework. Go has rendered it and it works by
// itself; this script joins, keeps the place alive over a WebSocket, and goes
// on when called. All words come from the page's own <template>.
import "../style/waiting.css";
import { ask, askWithPause, path, Problem, type Event, type Place, type Room } from "../lib/api";
import { band, count, money, startsAt } from "../lib/format";
import { live, type Live } from "../lib/live";

const page = document.querySelector<HTMLElement>("main[data-room]")!;
const room = page.dataset.room!;
const returnTo = page.dataset.returnTo!;
const title = document.title;
const el = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T;

const words = new Map<string, { headline: string; text: string }>();
for (const item of el<HTMLTemplateElement>("words").content.querySelectorAll<HTMLElement>("[data-key]")) {
  words.set(item.dataset.key!, { headline: item.querySelector("b")!.textContent!, text: item.querySelector("p")!.textContent! });
}

let socket: Live | null = null;
let going = false;
let spoken = 0;
let bell: AudioContext | null = null;

function show(key: string, time: string | null = null) {
  const word = words.get(key) ?? words.get("waiting")!;
  const fill = (text: string) => text.replace("{opens}", time ? startsAt(time) : "soon");
  setText("headline", fill(word.headline));
  setText("text", fill(word.text));
  page.dataset.key = key;
  const joins = key === "new" || key === "left" || key === "lapsed" || key === "over";
  el("join").hidden = !joins;
  el("enter").hidden = key !== "called";
  el("return").hidden = key !== "missed";
  el("bell").hidden = !(key === "waiting" || key === "paused" || key === "lobby");
  el("leave").hidden = el("bell").hidden;
  el("line").hidden = !(key === "waiting" || key === "paused");
}

function setText(id: string, text: string) {
  if (el(id).textContent !== text) el(id).textContent = text;
}

function draw(place: Place) {
  const key = keyOf(place);
  show(key, place.opens_at);
  fault("");
  setText("message", place.message ?? "");
  el("message").hidden = !place.message;
  if (place.position !== null) {
    setText("position", count(place.position));
    setText("ahead", count(place.ahead ?? place.position - 1));
  }
  setText("waiting", count(Math.max(place.waiting, place.position ?? 0))); // a fresh place is counted with the next tick
  el<HTMLProgressElement>("progress").value = place.progress;
  el("eta-row").hidden = key !== "waiting" || place.eta_s === null;
  if (place.eta_s) setText("eta", band(place.eta_s.low, place.eta_s.high));

  if (key === "waiting" && place.position !== null) {
    document.title = `${count(place.position)} in line · ${title}`;
    // Screen readers hear the position now and then, not at each step.
    if (Date.now() - spoken > 20_000) {
      spoken = Date.now();
      setText("spoken", `Your position is ${count(place.position)}.`);
    }
  } else {
    document.title = key === "called" ? `It’s your turn · ${title}` : title;
  }

  if (key === "called") void enter(place);
  else if (key === "admitted") {
    if (place.pass_expires_at && Date.parse(place.pass_expires_at) > Date.parse(place.now) + 5000) void enter(place);
    else show("over");
  }
  if (key === "left" || key === "lapsed") stop();
}

/** Which of the page's words fit: the place's own state first, then what its room does. */
function keyOf(place: Place): string {
  if (place.state === "waiting" || place.state === "lobby") {
    if (place.phase === "closed" || place.phase === "sold_out" || place.phase === "paused") return place.phase;
  }
  return place.state;
}

async function enter(place: Place) {
  if (going) return;
  going = true;
  if (place.state === "called") ring();
  try {
    await ask("POST", path("rooms", room, "pass"));
  } catch (cause) {
    going = false;
    if (cause instanceof Problem && cause.code === "place-lapsed") return show("over");
    return fault(cause, () => enter(place));
  }
  // A shop that sends us straight back has not taken the pass: offer a button instead of circling.
  const last = Number(sessionStorage.getItem("usher-entered") ?? 0);
  sessionStorage.setItem("usher-entered", String(Date.now()));
  if (Date.now() - last < 5000) {
    going = false;
    return show("called");
  }
  stop();
  location.replace(returnTo);
}

function listen() {
  if (socket) return;
  socket = live<Place>({
    path: path("rooms", room, "place", "ws"),
    protocols: ["usher.v1"],
    message: draw,
    connected(yes) {
      el("dot").className = yes ? "" : "away";
      setText("link", yes ? "Live" : "Reconnecting. Your place is safe.");
    },
    ended() {
      stop();
      void lookOnce();
    },
    async poll() {
      try {
        return await askWithPause<Place>(path("rooms", room, "place"));
      } catch (cause) {
        placeGone(cause);
        throw cause;
      }
    },
  });
  el("live").hidden = false;
}

/** What became of a place whose socket was closed for good. */
async function lookOnce() {
  try {
    draw(await ask<Place>("GET", path("rooms", room, "place")));
  } catch (cause) {
    if (!placeGone(cause)) fault(cause, lookOnce);
  }
}

function placeGone(cause: unknown): boolean {
  if (!(cause instanceof Problem) || (cause.code !== "place-lapsed" && cause.code !== "no-place")) return false;
  stop();
  show(cause.code === "no-place" ? "new" : "lapsed");
  return true;
}

function stop() {
  socket?.close();
  socket = null;
  el("live").hidden = true;
}

async function join(): Promise<void> {
  try {
    draw(await ask<Place>("POST", path("rooms", room, "places")));
    listen();
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    if (cause.code === "room-not-open" || cause.code === "room-closed") return watchRoom();
    fault(cause, join);
  }
}

/** Before the lobby and after the close there is no place to hold: look at the room instead. */
async function watchRoom(): Promise<void> {
  try {
    const { body, pause } = await askWithPause<Room>(path("rooms", room));
    if (body.phase !== "scheduled" && body.phase !== "closed" && body.phase !== "sold_out") return join();
    show(body.phase, body.opens_at);
    setTimeout(watchRoom, (pause ?? 5 + Math.random() * 5) * 1000);
  } catch (cause) {
    fault(cause, watchRoom);
  }
}

/** Says what went wrong, kindly, and tries again when the server said to or after a while. */
function fault(cause: unknown, again?: () => void) {
  const problem = cause instanceof Problem ? cause : null;
  setText("problem", problem ? problem.message : "");
  el("problem").hidden = !problem;
  if (problem && again && (problem.status === 0 || problem.status === 429 || problem.status >= 500)) {
    const pause = (problem.retryAfter ?? 3) * 1000;
    setTimeout(again, pause + Math.random() * 2000);
  }
}

function ring() {
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
}

/** Prices help while waiting: the event is known by the page that we return to. */
async function prices() {
  const slug = /^\/events\/([a-z0-9-]{1,40})(?:\/|$)/.exec(returnTo)?.[1];
  if (!slug) return;
  const event = await ask<Event>("GET", path("events", slug));
  const body = el("prices").querySelector("tbody")!;
  for (const category of event.categories) {
    const row = body.insertRow();
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = category.name;
    row.append(name);
    row.insertCell().textContent = money(category.price);
  }
  el("prices").hidden = body.rows.length === 0;
}

el("join").addEventListener("submit", (event) => {
  event.preventDefault();
  void join();
});
el("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.removeItem("usher-entered");
  void enter({ state: "admitted" } as Place);
});
el("return").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    draw(await ask<Place>("POST", path("rooms", room, "place", "return")));
    listen();
  } catch (cause) {
    if (cause instanceof Problem && cause.status === 410) return show("lapsed");
    fault(cause);
  }
});
el("leave").addEventListener("click", async () => {
  if (!confirm("Leave the line? Your place will be given up.")) return;
  try {
    await ask("DELETE", path("rooms", room, "place"));
    stop();
    show("left");
    document.title = title;
  } catch (cause) {
    fault(cause);
  }
});
el("bell").addEventListener("click", () => {
  bell ??= new AudioContext();
  ring();
  el("bell").textContent = "Sound is on";
  (el("bell") as HTMLButtonElement).disabled = true;
});

page.classList.add("scripted");
void prices().catch(() => {}); // the page is whole without them
const key = page.dataset.key!;
if (page.dataset.joined !== "true") {
  if (key === "new") void join();
  else void watchRoom();
} else {
  show(key, page.dataset.opensAt ?? null);
  if (key !== "left" && key !== "lapsed") listen();
}
