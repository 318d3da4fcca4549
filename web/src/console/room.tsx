import { useEffect, useRef, useState } from "preact/hooks";
import { ask, path, Problem, type Room } from "../lib/api";
import { count } from "../lib/format";
import { live } from "../lib/live";
import { Trouble } from "../lib/page";
import { Chart } from "./chart";
import { Controls } from "./controls";
import { Draw } from "./draw";
import { stateOf, type Figures, type Put, type RoomLive } from "./room-live";
import { change } from "./session";

const spans = [
  { step: "seconds", name: "Hour", limit: 3600 },
  { step: "minutes", name: "Week", limit: 10080 },
] as const;

export function RoomPage({ room, mayChange, ended }: { room: string; mayChange: boolean; ended(): void }) {
  const at = `/api/v1/operate/rooms/${encodeURIComponent(room)}`;
  const [now, setNow] = useState<RoomLive | null>(null);
  const [connected, setConnected] = useState(true);
  const [cause, setCause] = useState<unknown>(null);
  const [said, setSaid] = useState("");
  const [span, setSpan] = useState<"seconds" | "minutes">("seconds");
  const [open, setOpen] = useState<Room | null>(null);
  const chart = useRef<Chart | null>(null);
  const drawing = useRef<HTMLDivElement>(null);

  const failed = (problem: unknown) => {
    if (problem instanceof Problem && problem.status === 401) ended();
    else setCause(problem);
  };
  const receive = (document: RoomLive) => {
    setNow(document);
    if (followed.current) chart.current?.add(document);
  };
  const followed = useRef(false);
  useEffect(() => {
    const made = new Chart(drawing.current!);
    chart.current = made;
    ask<RoomLive>("GET", at).then(receive, failed);
    const socket = live<RoomLive>({
      path: at + "/ws",
      message: receive,
      connected: setConnected,
      ended: () => void ask<RoomLive>("GET", at).then(receive, failed), // says whether the session is over
      poll: async () => {
        try {
          return { body: await ask<RoomLive>("GET", at), pause: 2 };
        } catch (problem) {
          failed(problem);
          throw problem;
        }
      },
    });
    return () => {
      socket.close();
      made.destroy();
    };
  }, [room]);
  useEffect(() => {
    // The hour goes on with the live documents; the week stands as it was read.
    followed.current = false;
    let over = false;
    const { limit } = spans.find(({ step }) => step === span)!;
    ask<{ figures: Figures[] }>("GET", `${at}/history?step=${span}&limit=${limit}`).then(({ figures }) => {
      if (over) return;
      chart.current?.load(figures);
      followed.current = span === "seconds";
    }, failed);
    return () => void (over = true);
  }, [room, span]);
  useEffect(() => {
    ask<Room>("GET", path("rooms", room)).then(setOpen, () => {}); // the draw's figures are extra
  }, [room, now?.epoch, now?.phase, now?.beacon, now?.beacon_url, now?.opens_at]);
  useEffect(() => {
    if (now) document.title = `${count(now.waiting)} waiting · ${now.title}`;
  }, [now]);

  const act = async (what: () => Promise<string>) => {
    setCause(null);
    setSaid("");
    try {
      setSaid(await what());
      ask<RoomLive>("GET", at).then(receive, failed);
      return true;
    } catch (problem) {
      failed(problem);
      return false;
    }
  };
  const put: Put = (settings, done) => act(async () => (await change("PUT", at, settings), done));
  const admit = (n: number) => act(async () => {
    const { called } = await change<{ called: number }>("POST", at + "/admit", { count: n });
    return called === n ? `Called ${count(called)} more.` : `Called ${count(called)} of ${count(n)}: no more are waiting, or the capacity is reached.`;
  });
  const reset = () => act(async () => (await change("POST", at + "/reset"), "The line began anew. All places of before ended."));

  const state = now && stateOf(now);
  return (
    <>
      <p class="small"><a href="/console">All rooms</a></p>
      {now && (
        <header class="row spread">
          <h1>{now.title || now.room}</h1>
          <span class="row"><span class={`tag ${state!.tone}`} id="phase">{state!.text}</span>{now.quiet_until && <span class="tag warn">restored: calls go on in a moment</span>}{!connected && <span class="tag warn">reconnecting</span>}</span>
        </header>
      )}
      <Trouble cause={cause} />
      <p role="status" class={said ? "note" : "hush"}>{said}</p>
      {now && <FiguresNow now={now} />}
      <section class="sheet stack" aria-label="Over time">
        <div class="row spread">
          <h2>Over time</h2>
          <div class="row" role="group" aria-label="How far back">
            {spans.map(({ step, name }) => <button key={step} class="button" type="button" aria-pressed={span === step} onClick={() => setSpan(step)}>{name}</button>)}
          </div>
        </div>
        <div class="chart" ref={drawing} />
      </section>
      {now && mayChange && <Controls now={now} put={put} admit={admit} reset={reset} drawn={open?.draw.lobby_size !== undefined} />}
      {open && <Draw room={open} method={now?.method ?? "fifo"} />}
    </>
  );
}

function FiguresNow({ now }: { now: RoomLive }) {
  const figures: [string, number, string?][] = [
    ["Waiting", now.waiting, `${count(now.present)} present`],
    ["Called", now.called, "on their way in"],
    ["Inside", now.sessions, `of ${count(now.capacity)}`],
    ["A minute", Math.round(now.pace_actual_per_min), `of ${count(now.pace_per_min)}`],
    ["Let in so far", now.admitted_total],
    ["Missed", now.missed, "may come back"],
    ["Gone", now.lapsed + now.left, `${count(now.left)} left, ${count(now.lapsed)} lapsed`],
  ];
  return (
    <>
      <dl class="sheet figures">
        {figures.map(([name, n, more]) => <div key={name}><dt>{name}</dt><dd>{count(n)}{more && <span class="small"><br />{more}</span>}</dd></div>)}
      </dl>
      {now.origin_status && now.origin_status.health !== "unknown" && <p class="quiet small">Shop: {now.origin_status.health}, {count(Math.round(now.origin_status.latency_ms))} ms, {count(now.origin_status.in_flight)} requests in flight.</p>}
      {now.pace_limited_by && <p class="note">To protect the shop, {count(Math.round(now.pace_limited_by.pace_per_min))} a minute are called instead of {count(now.pace_per_min)}: it is {now.pace_limited_by.reason}. This ends by itself.</p>}
    </>
  );
}
