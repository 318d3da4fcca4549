// The draw, recomputed from public values by the browser's own hashing. It is
// compute_shuffled_index of the Ethereum consensus specification (phase 0), the
// swap-or-not shuffle of Hoang, Morris and Rogaway (2012).

export interface DrawRecord {
  commitment: string;
  secret: string;
  beacon: string;
  lobby_size: number;
  seed: string;
  algorithm: string;
  /** One round of a drand chain, where the beacon came from one. */
  beacon_source?: { url: string; round: number; signature: string; round_at: string; lobby_fixed_at: string };
}

/** What a signed receipt says of a place. */
export interface Receipt { room: string; epoch: string; number: number; commitment: string }

export interface Finding { check: string; ok: boolean }

/** Consistent: the order follows from what was promised before. Fair: and nobody could have known it before the lobby's size was fixed. */
export type Verdict = "wrong" | "consistent" | "fair";

const algorithm = "swap-or-not-90-sha256";
const rounds = 90;

export async function sha256(...parts: Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

export const toHex = (bytes: Uint8Array) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");

/** Bytes of lower-case hex, or null for anything else. */
export function fromHex(text: string): Uint8Array | null {
  if (!/^(?:[0-9a-f]{2})*$/.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** SHA-256(secret ‖ lobby size as 8 bytes little-endian ‖ beacon). */
export function seedOf(secret: Uint8Array, lobbySize: number, beacon: string): Promise<Uint8Array> {
  const size = new Uint8Array(8);
  new DataView(size.buffer).setBigUint64(0, BigInt(lobbySize), true);
  return sha256(secret, size, new TextEncoder().encode(beacon));
}

/** The rank of a number in a lobby of that size; who came after it keeps the number. */
export async function rankOf(seed: Uint8Array, lobbySize: number, number: number): Promise<number> {
  if (number >= lobbySize) return number;
  let index = number;
  const block = new Uint8Array(4);
  for (let round = 0; round < rounds; round++) {
    const head = await sha256(seed, Uint8Array.of(round));
    const pivot = Number(new DataView(head.buffer).getBigUint64(0, true) % BigInt(lobbySize));
    const flip = (pivot + lobbySize - index) % lobbySize;
    const position = Math.max(index, flip);
    new DataView(block.buffer).setUint32(0, Math.floor(position / 256), true);
    const source = await sha256(seed, Uint8Array.of(round), block);
    if ((source[Math.floor((position % 256) / 8)]! >> position % 8) & 1) index = flip;
  }
  return index;
}

/** Recomputes what the record says about one place, as `usher verify-draw` does. */
export async function verify(draw: DrawRecord, receipt: Receipt, shown: number): Promise<{ findings: Finding[]; rank: number; verdict: Verdict }> {
  const findings: Finding[] = [];
  const check = (check: string, ok: boolean) => {
    findings.push({ check, ok });
    return ok;
  };
  const secret = fromHex(draw.secret);
  if (!check("The order was made by the published method", draw.algorithm === algorithm) || !secret || secret.length !== 32) {
    return { findings, rank: -1, verdict: "wrong" };
  }
  const promised = toHex(await sha256(secret));
  check("The secret is the one that your place promised", promised === receipt.commitment && promised === draw.commitment);
  const seed = await seedOf(secret, draw.lobby_size, draw.beacon);
  check("The seed follows from the secret, the size of the lobby and the beacon", toHex(seed) === draw.seed);
  let fair = false;
  if (draw.beacon_source) {
    const signature = fromHex(draw.beacon_source.signature);
    const drawn = check("The beacon follows from the signature of its public round", !!signature && toHex(await sha256(signature)) === draw.beacon);
    fair = check("Nobody could know the beacon when the lobby closed", Date.parse(draw.beacon_source.round_at) > Date.parse(draw.beacon_source.lobby_fixed_at)) && drawn;
  }
  const rank = await rankOf(seed, draw.lobby_size, receipt.number);
  check("Your rank follows from the seed and your number", rank === shown);
  return { findings, rank, verdict: findings.some((f) => !f.ok) ? "wrong" : fair ? "fair" : "consistent" };
}
