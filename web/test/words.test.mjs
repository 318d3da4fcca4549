import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./source.mjs";

const { band, money, minutesSeconds, plural } = await load("lib/format.ts");

test("an estimate is a band, in the same words as the page rendered by Go", () => {
  for (const [low, high, words] of [
    [0, 20, "less than a minute"], [20, 60, "about a minute"], [30, 150, "up to 3 minutes"], [120, 240, "2 to 4 minutes"],
    [120, 120, "about 2 minutes"], [3600, 7200, "1 to 2 hours"], [600, 6000, "up to 2 hours"], [80000, 200000, "more than a day"],
  ]) assert.equal(band(low, high), words, `${low} to ${high} s`);
});

test("money is written from minor units, with cents only where there are some", () => {
  assert.equal(money({ amount: 4500, currency: "EUR" }), "€45");
  assert.equal(money({ amount: 4550, currency: "EUR" }), "€45.50");
  assert.equal(money({ amount: 4500, currency: "JPY" }), "¥4,500");
  assert.equal(money({ amount: 0, currency: "EUR" }), "€0");
});

test("a countdown never shows less than nothing", () => {
  assert.equal(minutesSeconds(245_000), "4:05");
  assert.equal(minutesSeconds(600), "0:01");
  assert.equal(minutesSeconds(-5), "0:00");
});

test("one is not many", () => {
  assert.equal(plural(1, "seat"), "1 seat");
  assert.equal(plural(15620, "seat"), "15,620 seats");
  assert.equal(plural(2, "person is", "people are"), "2 people are");
});
