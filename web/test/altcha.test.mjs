// ALTCHA's own library as an independent peer of our server: it verifies what Go signed
// and solved, and Go's test verifies what it made (gateway/challenge/testdata).
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createChallenge, solveChallenge, verifySolution } from "altcha-lib";
import { deriveKey } from "altcha-lib/algorithms/pbkdf2";

const vectors = JSON.parse(await readFile(new URL("../../gateway/challenge/testdata/altcha.json", import.meta.url), "utf8"));
const read = (answer) => JSON.parse(Buffer.from(answer, "base64").toString());

for (const maker of ["go", "library"]) {
  test(`the library verifies an answer whose challenge ${maker} made, and solves it alike`, async () => {
    const { challenge, solution } = read(vectors[maker]);
    const options = { challenge, deriveKey, hmacSignatureSecret: vectors.secret };
    assert.equal((await verifySolution({ ...options, solution })).verified, true);
    assert.equal((await verifySolution({ ...options, solution: { ...solution, counter: solution.counter + 1 } })).verified, false);
    const solved = await solveChallenge({ challenge, deriveKey });
    assert.deepEqual([solved.counter, solved.derivedKey], [solution.counter, solution.derivedKey]);
  });
}

test("what the library signs today is what Go signed", async () => {
  const { challenge } = read(vectors.go);
  const { expiresAt, data, cost, keyPrefix } = challenge.parameters;
  const made = await createChallenge({ algorithm: "PBKDF2/SHA-256", cost, data, deriveKey, expiresAt, keyPrefix, hmacSignatureSecret: vectors.secret });
  assert.deepEqual(Object.keys(made.parameters), Object.keys(challenge.parameters));
});
