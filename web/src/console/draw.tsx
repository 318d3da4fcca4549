import type { Room } from "../lib/api";
import { count } from "../lib/format";

/** What is public about the draw: the promise before it, and all that it was made of after. */
export function Draw({ room, method }: { room: Room; method: "fifo" | "draw" }) {
  const { commitment, beacon, beacon_url, round, round_at, lobby_size, secret, seed } = room.draw;
  if (method !== "draw" && lobby_size === undefined) return null;
  const facts: [string, string][] = [["Commitment", commitment], ["Beacon", beacon || beacon_url || "none"]];
  if (round && round_at) facts.push(["Round", `${round}, at ${new Date(round_at).toLocaleString()}`]);
  if (lobby_size !== undefined) facts.push(["Lobby", `${count(lobby_size)} took part`]);
  if (secret) facts.push(["Secret", secret]);
  if (seed) facts.push(["Seed", seed]);
  return (
    <section class="sheet stack" aria-label="The draw">
      <h2>The draw</h2>
      <p class="quiet small">{!secret
        ? "It is made once, when the line starts. The commitment is public already, in the room and in every place."
        : <>It is made, and public: anyone can recompute every rank from <a href={`/api/v1/rooms/${room.room}/draw`}>its record</a>.</>}</p>
      <dl class="draw">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    </section>
  );
}
