// The waiting page without a framework. Go has rendered it and it works by
// itself; this script joins, keeps the place alive over a WebSocket, and goes
// on when called. All words come from the page's own <template>.
import "../style/waiting.css";
import { ask, askWithPause, path, Problem, serverNow, type Event, type Place, type Room } from "../lib/api";
import { band, count, money, startsAt } from "../lib/format";
import type { Live } from "../lib/live";
import { hangBell, ring } from "./bell";
import { Call } from "./call";
import { el, setText } from "./dom";
import type { Offer } from "./proof";
import { keepReceipt, keptReceipt } from "./receipt";
import { shared } from "./shared";
import { forgetInvitation, invitation, keepInvitation, resumeCode } from "./ticket";
import { Until } from "./until";

const page = document.querySelector<HTMLElement>("main[data-room]")!;
const room = page.dataset.room!;
const returnTo = page.dataset.returnTo!;
const title = document.title;

const words = new Map<string, { headline: string; text: string }>();
for (const item of el<HTMLTemplateElement>("words").content.querySelectorAll<HTMLElement>("[data-key]")) {
  words.set(item.dataset.key!, { headline: item.querySelector("b")!.textContent!, text: item.querySelector("p")!.textContent! });
}

/** Why an estimate slips, in the visitor's words. */
const reasons: Record<string, string> = {
  paused: "The line stands still for the moment.",
  slowed: "It goes more slowly right now, so that the shop keeps working for those inside.",
};

let socket: Live | null = null;
let latest: Place | null = null;
let going = false;
let spoken = 0;
let rung = "";

const byHand = el<HTMLInputElement>("by-hand");
const call = new Call(room, {
  ending: () => latest && !byHand.checked && void enter(latest),
  extended: render,
  ticked: () => latest && tellTitle("called", latest),
});
const until = new Until();

function show(key: string, time: string | null = null) {
  const word = words.get(key) ?? words.get("waiting")!;
  const fill = (text: string) => text.replace(/\{(opens|ready)\}/, time ? startsAt(time) : "soon");
  setText("headline", fill(word.headline));
  setText("text", fill(word.text));
  page.dataset.key = key;
  const inLine = key === "waiting" || key === "paused" || key === "lobby";
  el("join").hidden = !["new", "left", "lapsed", "over", "reset", "moved"].includes(key);
  el("wait").hidden = key !== "check";
  el("proof").hidden = key !== "check";
  el("enter").hidden = key !== "called";
  el("return").hidden = key !== "missed";
  el("bell").hidden = !inLine;
  el("leave").hidden = !inLine;
  el("hand").hidden = !inLine && key !== "called";
  el("move").hidden = !inLine && key !== "called";
  el("line").hidden = key !== "waiting" && key !== "paused";
  el("invitation").hidden = key !== "invited";
  el("others").hidden = !returnTo.startsWith("/events/") || (key !== "closed" && key !== "sold_out");
  if (key !== "called") call.hide();
  until.show((key === "lobby" || key === "scheduled") && time ? time : null);
}

function render(place: Place) {
  latest = place;
  const key = keyOf(place);
  show(key, place.phase === "scheduled" ? (place.lobby_at ?? place.opens_at) : place.opens_at);
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
  const reason = key === "waiting" ? reasons[place.eta_reason ?? ""] : undefined;
  setText("reason", reason ?? "");
  el("reason").hidden = !reason;
  if (place.state === "lobby") keepReceipt(place);
  el("check").hidden = place.rank === null || (place.rank === place.number && keptReceipt(room)?.epoch !== place.epoch);

  if (key === "called") {
    call.show(place);
    const name = place.call_expires_at ?? place.epoch;
    if (rung !== name) {
      rung = name;
      ring(`It’s your turn: ${page.querySelector("h1")!.textContent}`);
      if (byHand.checked && lostFocus()) el("enter").querySelector("button")!.focus();
    }
  }
  tellTitle(key, place);
  if (key === "waiting" && place.position !== null && Date.now() - spoken > 20_000) {
    // Screen readers hear the position now and then, not at each step.
    spoken = Date.now();
    setText("spoken", `Your position is ${count(place.position)}.`);
  }
  goOn();
  if (place.state === "left" || place.state === "lapsed") stop();
}

const lostFocus = () => document.activeElement === document.body || !(document.activeElement as HTMLElement | null)?.offsetParent;

function tellTitle(key: string, place: Place) {
  if (key === "waiting" && place.position !== null) document.title = `${count(place.position)} in line · ${title}`;
  else if (key === "called") document.title = `It’s your turn ${call.left()} · ${title}`;
  else document.title = title;
}

/** Which of the page's words fit: the place's own state first, then what its room does. */
function keyOf(place: Place): string {
  if (place.state === "waiting" || place.state === "lobby") {
    if (place.phase === "closed" || place.phase === "sold_out" || place.phase === "paused") return place.phase;
  }
  if (place.state === "lapsed" && place.rank === null) return "reset"; // a place of an earlier epoch has no rank
  if (place.state === "admitted" && !passIsGood(place)) return "over";
  return place.state;
}

const passIsGood = (place: Place) => !!place.pass_expires_at && Date.parse(place.pass_expires_at) > Date.parse(place.now) + 5000;

/** Takes a called visitor on, unless nobody is looking or the visitor wants to press the button. */
function goOn() {
  if (!latest || document.hidden) return;
  const key = keyOf(latest);
  if ((key === "called" && !byHand.checked) || key === "admitted") void enter(latest);
}

async function enter(place: Place) {
  if (going) return;
  going = true;
  try {
    await ask("POST", path("rooms", room, "pass"));
  } catch (cause) {
    going = false;
    if (placeGone(cause)) return;
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
  socket = shared<Place>(`usher-place ${room}`, {
    path: path("rooms", room, "place", "ws"),
    protocols: ["usher.v1"],
    message: render,
    connected(yes) {
      el("dot").className = yes ? "" : "away";
      setText("link", yes ? "Live" : "Reconnecting. Your place is safe.");
    },
    ended() {
      stop();
      if (latest?.state !== "lapsed" && latest?.state !== "left") void lookOnce(); // else the last document said why
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
    render(await ask<Place>("GET", path("rooms", room, "place")));
  } catch (cause) {
    if (!placeGone(cause)) fault(cause, lookOnce);
  }
}

/** What the page says when a place is no more, by the problem's code. */
const gone: Record<string, string> = { "place-lapsed": "lapsed", "place-moved": "moved", "no-place": "new" };

function placeGone(cause: unknown): boolean {
  const key = cause instanceof Problem ? gone[cause.code] : undefined;
  if (!key) return false;
  stop();
  latest = null;
  show(key);
  document.title = title;
  return true;
}

function stop() {
  socket?.close();
  socket = null;
  el("live").hidden = true;
}

async function join(more: { resume?: string; challenge?: string } = {}): Promise<void> {
  const invite = invitation(room);
  const body = { ...(invite ? { invite } : {}), ...more };
  try {
    render(await ask<Place>("POST", path("rooms", room, "places"), Object.keys(body).length ? { body } : {}));
    listen();
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    if (more.resume && placeGone(cause)) return; // the code was used, or its place is over
    if (cause.body.challenge && checks < mostChecks) return check(cause.body.challenge as Offer);
    if (cause.code === "room-not-open" || cause.code === "room-closed") return watchRoom();
    if (cause.code === "invite-required" || cause.code === "invite-invalid") {
      forgetInvitation(room);
      show("invited");
    } else if (more.resume && cause.status >= 400 && cause.status < 500 && cause.status !== 429) show("new"); // the code is too old
    fault(cause.code === "invite-required" ? "" : cause, () => join(more));
  }
}

// Each further check is harder; a browser that fails so often is told to wait instead.
const mostChecks = 5;
let checks = 0;

/** The room wants to see that this browser takes one place, not hundreds. */
async function check(offer: Offer): Promise<void> {
  checks++;
  fault("");
  show("check");
  try {
    const { prove } = await import("./proof");
    const challenge = await prove(el("proof"), offer);
    if (page.dataset.key !== "check") return; // the visitor waits instead
    await join({ challenge });
  } catch {
    setText("problem", "This browser could not make the check. You can wait instead.");
    el("problem").hidden = false;
  }
}

/** Joins with the turn of one who waits instead of making the check, when its time has come. */
function turn(readyAt: string, challenge?: string) {
  show("turn", readyAt);
  setTimeout(() => void join(challenge ? { challenge } : {}), Math.max(0, Date.parse(readyAt) - serverNow()) + 1000);
}

/** Before the lobby and after the close there is no place to hold: look at the room instead. */
async function watchRoom(): Promise<void> {
  try {
    const { body, pause } = await askWithPause<Room>(path("rooms", room));
    if (body.phase !== "scheduled" && body.phase !== "closed" && body.phase !== "sold_out") return join();
    show(body.phase, body.lobby_at ?? body.opens_at);
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
el("wait").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { answer, ready_at } = await ask<{ answer: string; ready_at: string }>("POST", path("rooms", room, "check"));
    fault("");
    turn(ready_at, answer);
  } catch (cause) {
    fault(cause);
  }
});
el("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.removeItem("usher-entered");
  void enter({ state: "admitted" } as Place);
});
el("return").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    render(await ask<Place>("POST", path("rooms", room, "place", "return")));
    listen();
  } catch (cause) {
    if (!placeGone(cause)) fault(cause);
  }
});
el("leave").addEventListener("click", async () => {
  if (!confirm("Leave the line? Your place will be given up.")) return;
  try {
    await ask("DELETE", path("rooms", room, "place"));
    stop();
    latest = null;
    show("left");
    document.title = title;
  } catch (cause) {
    fault(cause);
  }
});
el("invitation").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = el<HTMLInputElement>("invite").value.trim();
  if (!given) return;
  keepInvitation(room, /[#&?]invite=([^&]+)/.exec(given)?.[1] ?? given); // the whole link does as well
  void join();
});
el("check").addEventListener("toggle", async () => {
  if (!el<HTMLDetailsElement>("check").open || !latest) return;
  const { checkRank } = await import("./check");
  await checkRank(latest, el("checked"));
});
el("move").addEventListener("toggle", async () => {
  if (!el<HTMLDetailsElement>("move").open) return el("moving").replaceChildren();
  const { offerMove } = await import("./move");
  await offerMove(room, returnTo, el("moving"));
});
const handName = "usher-by-hand";
byHand.checked = localStorage.getItem(handName) === "yes";
byHand.addEventListener("change", () => {
  localStorage.setItem(handName, byHand.checked ? "yes" : "no");
  goOn();
});
document.addEventListener("visibilitychange", goOn);
hangBell();

page.classList.add("scripted");
void prices().catch(() => {}); // the page is whole without them
const key = page.dataset.key!;
/** A link with the code of a place on another device brings that place here, also into a page that is open. */
function resumed(): boolean {
  const resume = resumeCode();
  if (resume) void join({ resume });
  return resume !== null;
}
addEventListener("hashchange", () => resumed() || (invitation(room) && page.dataset.key === "invited" && void join()));
if (resumed()) {
  // the join goes on from here
} else if (page.dataset.joined !== "true") {
  if (key === "new" || key === "check") void join();
  else if (key === "turn") turn(page.dataset.checkAt!);
  else void watchRoom();
} else if (key === "lapsed") {
  void lookOnce(); // a session that is over reads otherwise
} else {
  show(key, page.dataset.opensAt ?? null);
  if (key !== "left") listen();
}
