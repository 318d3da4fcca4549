import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { load } from "./source.mjs";

const { fromHex, rankOf, seedOf, toHex, verify } = await load("waiting/draw.ts");

const digest = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();

// Vectors of the consensus specification's test suite (ethereum/consensus-spec-tests,
// tests/mainnet/phase0/shuffling/core/shuffle/shuffle_0x<seed>_<count>/mapping.yaml):
// seed, count and the SHA-256 of the file, as its LFS pointer gives it.
const published = [
  ["075de2b906dbd7066da008cab735bee896370154603579a50122f9b88545bd45", 2, "3ede99381e9212ba792e0cd774be88860aeb7845e19882cdef3d9e630178ad58"],
  ["17fa9c7f5e9039a2d46e73e17d8e094a796ee4c313199bad42db4ee1dc30d865", 5, "f4737cc3a0f5f6ad95b066d3ddc42fd3b2ee6904f683f4c15966b9dcc75489de"],
  ["01b4f6bd5d6a06a7b74a8565ceb4f845afe0ae96a0ac05cf5e86066bf7b538ec", 33, "a014701e692faf6390f43a5b32470689ffdec35891f58bcd7572eb8226b19488"],
  ["0623ccb9b1619bd388284a438034d8cb6431964ba727d8b1c450303105735488", 100, "5b6ee6048c54dc7934d1067d81d09441a33178cc96bbea059f56ced1e69ac42f"],
];

/** The vector's file as the suite writes it: YAML, its list wrapped after column 80. */
function mappingFile(seed, mapping) {
  let file = `seed: '0x${seed}'\ncount: ${mapping.length}\n`;
  let line = "mapping: [";
  mapping.forEach((rank, i) => {
    if (i > 0) {
      line += ",";
      if (line.length > 80) {
        file += line + "\n";
        line = "  ";
      } else line += " ";
    }
    line += rank;
  });
  return file + line + "]\n";
}

test("ranks are those of the published vectors", async () => {
  for (const [seed, n, file] of published) {
    const mapping = await Promise.all(Array.from({ length: n }, (_, number) => rankOf(fromHex(seed), n, number)));
    assert.equal(digest(mappingFile(seed, mapping)).toString("hex"), file, `count ${n}`);
  }
});

test("a large lobby and a late arrival", async () => {
  const seed = fromHex("01b4f6bd5d6a06a7b74a8565ceb4f845afe0ae96a0ac05cf5e86066bf7b538ec");
  assert.equal(await rankOf(seed, 10_000_000, 10_000_000), 10_000_000);
  const rank = await rankOf(seed, 10_000_000, 9_999_999);
  assert.equal(rank, reference(seed, 10_000_000, 9_999_999));
});

/** compute_shuffled_index once more, by node's own hashing and big integers throughout. */
function reference(seed, count, number) {
  let index = BigInt(number);
  const n = BigInt(count);
  for (let round = 0; round < 90; round++) {
    const pivot = digest(seed, Buffer.of(round)).readBigUInt64LE() % n;
    const flip = (pivot + n - index) % n;
    const position = index > flip ? index : flip;
    const block = Buffer.alloc(4);
    block.writeUInt32LE(Number(position / 256n));
    const byte = digest(seed, Buffer.of(round), block)[Number((position % 256n) / 8n)];
    if ((BigInt(byte) >> (position % 8n)) & 1n) index = flip;
  }
  return Number(index);
}

const secret = Buffer.alloc(32, 7);
const size = Buffer.alloc(8);
size.writeBigUInt64LE(100n);

async function honest(beacon, source) {
  const seed = digest(secret, size, beacon);
  assert.equal(toHex(await seedOf(secret, 100, beacon)), seed.toString("hex"));
  const commitment = digest(secret).toString("hex");
  const draw = { commitment, secret: secret.toString("hex"), beacon, lobby_size: 100, seed: seed.toString("hex"), algorithm: "swap-or-not-90-sha256", beacon_source: source };
  return { draw, receipt: { room: "arena", epoch: "e", number: 42, commitment }, rank: await rankOf(seed, 100, 42) };
}

test("a draw without a beacon that nobody could know is consistent, and no more", async () => {
  const { draw, receipt, rank } = await honest("a word é", undefined);
  const got = await verify(draw, receipt, rank);
  assert.equal(got.verdict, "consistent");
  assert.equal(got.rank, rank);
});

test("only a round that came after the lobby makes a draw fair", async () => {
  const signature = "ab".repeat(48);
  const beacon = digest(fromHex(signature)).toString("hex");
  const source = { url: "https://drand.example", round: 9, signature, round_at: "2026-12-01T18:00:03Z", lobby_fixed_at: "2026-12-01T18:00:00Z" };
  const { draw, receipt, rank } = await honest(beacon, source);
  assert.equal((await verify(draw, receipt, rank)).verdict, "fair");
  const early = { ...draw, beacon_source: { ...source, round_at: "2026-12-01T17:59:57Z" } };
  assert.equal((await verify(early, receipt, rank)).verdict, "wrong");
  const forged = { ...draw, beacon_source: { ...source, signature: "cd".repeat(48) } };
  assert.equal((await verify(forged, receipt, rank)).verdict, "wrong");
});

test("whatever was changed after the promise is found", async () => {
  const { draw, receipt, rank } = await honest("", undefined);
  for (const [what, changed, of, shown] of [
    ["another rank", draw, receipt, (rank + 1) % 100],
    ["another secret", { ...draw, secret: "08".repeat(32) }, receipt, rank],
    ["another promise", draw, { ...receipt, commitment: "00".repeat(32) }, rank],
    ["another seed", { ...draw, seed: "00".repeat(32) }, receipt, rank],
    ["another size", { ...draw, lobby_size: 99 }, receipt, rank],
    ["another method", { ...draw, algorithm: "by hand" }, receipt, rank],
    ["no secret", { ...draw, secret: "" }, receipt, rank],
  ]) assert.equal((await verify(changed, of, shown)).verdict, "wrong", what);
});
