import { useEffect } from "preact/hooks";
import { ask, Problem } from "../lib/api";
import { count } from "../lib/format";
import { Trouble } from "../lib/page";
import { useLoaded } from "../lib/use";
import { stateOf, type RoomLive } from "./room-live";

export function RoomList({ ended }: { ended(): void }) {
  const { value, cause, again } = useLoaded(() => ask<{ rooms: RoomLive[] }>("GET", "/api/v1/operate/rooms"), "rooms");
  useEffect(() => {
    const ticker = setInterval(again, 5000);
    return () => clearInterval(ticker);
  }, [again]);
  useEffect(() => {
    if (cause instanceof Problem && cause.status === 401) ended();
  }, [cause]);
  return (
    <>
      <h1>Waiting rooms</h1>
      <Trouble cause={cause} again={again} />
      {value?.rooms.length === 0 && <p class="quiet">There is no room yet.</p>}
      <ul class="rooms">
        {value?.rooms.map((room) => {
          const state = stateOf(room);
          return (
            <li key={room.room}>
              <a class="sheet" href={`/console/rooms/${room.room}`}>
                <span class="row"><strong>{room.title || room.room}</strong><span class={`tag ${state.tone}`}>{state.text}</span></span>
                <span class="row quiet number"><span>{count(room.waiting)} waiting</span><span>{count(room.sessions)} inside</span><span>{count(room.pace_per_min)} a minute</span></span>
              </a>
            </li>
          );
        })}
      </ul>
    </>
  );
}
