import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./source.mjs";

const { readPlan, seatName } = await load("seats/plan.ts");

const event = { currency: "EUR", categories: [{ name: "Stalls", price: { amount: 4500, currency: "EUR" } }, { name: "Floor", price: { amount: 3000, currency: "EUR" } }] };
const seat = (index, x, y, more = {}) => ({ index, label: String(index + 1), row: 0, zone: 0, x, y, category: "Stalls", accessible: false, ...more });
const plan = {
  zones: [{ name: "Stalls" }, { name: "Stage" }],
  rows: [{ label: "A", zone: 0 }, { label: "Box L1", zone: 0 }],
  seats: [seat(0, 0, 0), seat(1, 24, 0), seat(2, 0, 24, { row: 1, category: "Box", accessible: true })],
  areas: [{ id: "f", name: "Floor", category: "Floor", capacity: 100, shape: { type: "rectangle", x: 100, y: 0, width: 50, height: 60 } }],
  decorations: [{ name: "Stage", shape: { type: "circle", x: 0, y: -50, radius: 10 } }],
};

test("a plan becomes arrays by index, with what is not priced kept and marked", () => {
  const layout = readPlan(plan, event);
  assert.deepEqual([...layout.category], [0, 0, 2]);
  assert.deepEqual(layout.categories[2], { name: "Box", amount: null });
  assert.deepEqual(layout.zones[0].rows, [0, 1]);
  assert.deepEqual(layout.rows[0].seats, [0, 1]);
  assert.deepEqual([...layout.accessible], [0, 0, 1]);
  assert.deepEqual(layout.bounds, { left: -10, top: -60, right: 150, bottom: 60 });
  assert.equal(layout.areas[0].category, 1);
  assert.ok(Math.abs(layout.radius - 0.42 * 24) < 0.01);
  assert.deepEqual(layout.index.neighbors(25, 1, 1), [1]);
});

test("a seat is named by section, row and number", () => {
  const layout = readPlan(plan, event);
  assert.equal(seatName(layout, 1), "Stalls · Row A · Seat 2");
  assert.equal(seatName(layout, 2), "Stalls · Box L1 · Seat 3");
});

test("a plan of areas alone has no seats to index", () => {
  const layout = readPlan({ ...plan, seats: [], rows: [] }, event);
  assert.equal(layout.index, null);
  assert.equal(layout.seats, 0);
});
