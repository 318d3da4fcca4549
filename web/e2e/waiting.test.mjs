// The waiting page beyond the journey: the draw checked in the browser, more time for a call, tabs that share a place.
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { desktop, openPage, phone, picture } from "./browser.mjs";
import { browser, check, signIn, site } from "./opening.mjs";

test("a visitor of the lobby recomputes the drawn rank, and a record that was changed is found out; the operator begins anew", { timeout: 240_000 }, async () => {
  const lottery = (more) => site.operate("PUT", "rooms/lottery", { title: "The lottery", pace_per_min: 0, presence_ttl_s: 600, ...more });
  await lottery({ method: "draw", lobby_at: new Date(Date.now() - 1000).toISOString(), opens_at: new Date(Date.now() + 600_000).toISOString() });
  await site.crowd("lottery", 30);
  const context = await browser.newContext(phone);
  const { page, faults } = await openPage(context);
  await page.goto(site.base + "/rooms/lottery");
  await page.getByRole("heading", { name: "You’re in" }).waitFor();
  await page.locator("#until-left", { hasText: /^\d+:\d\d$/ }).waitFor();
  await check(page, "lobby-phone");
  await page.waitForFunction(() => localStorage.getItem("usher-receipt lottery"));

  await lottery({ opens_at: new Date(Date.now() + 500).toISOString() });
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();
  const { number, rank } = await page.evaluate(() => fetch("/api/v1/rooms/lottery/place").then((answer) => answer.json()));
  await page.getByText("Check my rank").click();
  await page.getByRole("heading", { name: "The draw is consistent" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "The draw is consistent");
  await page.getByText(`You were number ${number + 1} to arrive and were drawn to place ${rank + 1} of 31.`).waitFor();
  assert.equal(await page.locator(".findings .wrong").count(), 0);
  assert.equal(await page.getByText("only now, after the draw").count(), 0, "the receipt was kept from before");
  await check(page, "rank-checked-phone");

  await page.route(/\/lottery\/draw$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...(await answer.json()), beacon: "a word chosen later" } });
  });
  await page.getByText("Check my rank").click();
  await page.getByText("Check my rank").click();
  await page.getByRole("heading", { name: "Something does not match" }).waitFor();
  await picture(page, "rank-wrong-phone");

  // The operator sees the draw, and begins anew: the word for it is not that the visitor was late.
  const desk = await browser.newContext(phone);
  const { page: console_, faults: consoleFaults } = await openPage(desk);
  await signIn(console_, "/console/rooms/lottery");
  await console_.getByText("31 took part").waitFor();
  assert.ok(await console_.locator("#opens_at").isDisabled(), "what the draw rests on is fixed");
  await check(console_, "console-room-phone");
  await console_.getByRole("button", { name: "Week" }).click();
  await console_.getByRole("button", { name: "Reset the line" }).click();
  const sure = console_.getByRole("dialog");
  assert.ok(await sure.getByRole("button", { name: "Reset it" }).isDisabled());
  await sure.getByRole("textbox").fill("lottery");
  await check(console_, "console-reset-phone");
  await sure.getByRole("button", { name: "Reset it" }).click();
  await page.getByRole("heading", { name: "The line began anew" }).waitFor();

  await console_.locator("#beacon_url").fill("https://evil.example/" + "a".repeat(64));
  await console_.getByRole("button", { name: "Save the schedule" }).click();
  await console_.getByText("--beacon-hosts").waitFor();
  await console_.locator("#beacon_url").fill("");
  const { publicKey: guestList } = generateKeyPairSync("ed25519");
  const { kty, crv, x } = guestList.export({ format: "jwk" });
  await console_.locator("#invite_keys").fill(JSON.stringify({ kty, crv, x }));
  await console_.getByRole("button", { name: "Save the invitations" }).click();
  await console_.getByText("The guest list's keys are in force.").waitFor();
  await console_.locator("#phones").fill("240");
  await console_.getByRole("button", { name: "Set the seconds" }).click();
  await console_.getByText("A phone stays in line for 240 seconds").waitFor();
  const { invite_keys, phone_presence_ttl_s } = await site.operate("GET", "rooms/lottery");
  assert.deepEqual([invite_keys[0].x, phone_presence_ttl_s], [x, 240]);

  await console_.locator("#method").selectOption("fifo");
  await console_.locator("#closes_at").fill("2040-01-02T03:04:05");
  await console_.getByRole("button", { name: "Save the schedule" }).click();
  await console_.getByText("The schedule is in force.").waitFor();
  const { method, closes_at } = await site.operate("GET", "rooms/lottery");
  assert.deepEqual([method, new Date(closes_at).getFullYear()], ["fifo", 2040]);
  await console_.getByRole("button", { name: "Bypass" }).click();
  await console_.getByRole("dialog").getByRole("button", { name: "Let everyone in" }).click();
  await console_.getByRole("button", { name: "End the bypass" }).waitFor();
  assert.deepEqual(consoleFaults, []);
  await desk.close();
  assert.deepEqual(faults, []);
  await context.close();
});

test("a visitor who wants to press Enter is warned, has more time once, and is not taken on unasked", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/calm", { title: "The calm room", pace_per_min: 0, call_ttl_s: 40 });
  const context = await browser.newContext(phone);
  const { page, faults } = await openPage(context);
  await page.goto(site.base + "/rooms/calm");
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();
  await page.getByLabel("Wait for me to press Enter").check();
  await page.evaluate(() => document.activeElement.blur());
  await site.operate("POST", "rooms/calm/admit", { count: 1 });
  await page.getByRole("heading", { name: "It’s your turn" }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  assert.equal(await focused(), "Enter");
  assert.equal(await page.locator("#urgent").textContent(), "");
  await check(page, "called-phone");
  await page.locator("#call.warn").waitFor();
  assert.match(await page.locator("#urgent").textContent(), /^Only (1?\d|20) seconds left to enter\.$/);
  await picture(page, "called-warning-phone");
  await page.getByRole("button", { name: "I need more time" }).click();
  await page.getByText("You have more time, until").waitFor();
  assert.equal(await focused(), "Enter");
  assert.equal(await page.getByRole("button", { name: "I need more time" }).count(), 0);
  assert.equal(await page.locator("#call.warn").count(), 0);
  await check(page, "called-extended-phone");
  assert.equal(new URL(page.url()).pathname, "/rooms/calm");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.waitForURL(site.base + "/");
  assert.deepEqual(faults, []);
  await context.close();
});

test("the tabs of a browser share one place and one socket", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/tabs", { title: "Tabs", pace_per_min: 0 });
  const context = await browser.newContext(desktop);
  const open = new Set();
  const tab = async () => {
    const { page, faults } = await openPage(context);
    const socket = () => page.waitForEvent("websocket", { predicate: (socket) => socket.url().endsWith("/place/ws") });
    page.on("websocket", (socket) => {
      if (!socket.url().endsWith("/place/ws")) return;
      open.add(socket);
      socket.on("close", () => open.delete(socket));
    });
    const opened = socket();
    await page.goto(site.base + "/rooms/tabs");
    await opened;
    return { page, faults, socket };
  };
  const first = await tab();
  const second = await tab();
  await site.operate("PUT", "rooms/tabs", { message: "Both of you" });
  for (const { page } of [first, second]) {
    await page.locator("#message", { hasText: "Both of you" }).waitFor();
    await page.locator("#position", { hasText: /^1$/ }).waitFor();
  }
  while (open.size !== 1) await setTimeout(20); // the old socket's goodbye may come after the new one's opening
  const taken = first.socket();
  await second.page.close();
  await taken;
  await site.operate("PUT", "rooms/tabs", { message: "You alone" });
  await first.page.locator("#message", { hasText: "You alone" }).waitFor();
  assert.deepEqual([...first.faults, ...second.faults], []);
  await context.close();
});

test("a place goes along to another device, and leaves the first", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/moving", { title: "The moving room", pace_per_min: 0, presence_ttl_s: 600 });
  await site.crowd("moving", 2);
  const [laptop, pocket] = await Promise.all([browser.newContext(desktop), browser.newContext(phone)]);
  const { page: old, faults: oldFaults } = await openPage(laptop);
  await old.goto(site.base + "/rooms/moving?return_to=/events/club");
  await old.locator("#position", { hasText: /^3$/ }).waitFor();
  await old.getByText("Continue on another device").click();
  await old.locator("canvas.qr").waitFor();
  await check(old, "move-desktop");
  const link = await old.getByLabel("Link for the other device").inputValue();

  const { page, faults } = await openPage(pocket);
  await page.goto(link);
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();
  await page.locator("#position", { hasText: /^3$/ }).waitFor();
  assert.equal(page.url(), `${site.base}/rooms/moving?return_to=%2Fevents%2Fclub`, "the code has left the address bar");
  await check(page, "moved-here-phone");
  await old.getByRole("heading", { name: "Your place is on another device" }).waitFor();
  await check(old, "moved-away-desktop");

  // The code is good once, and a wrong one brings a way on.
  const third = await browser.newContext(desktop);
  const { page: late, faults: lateFaults } = await openPage(third);
  await late.goto(link);
  await late.getByRole("heading", { name: "Your place is on another device" }).waitFor();
  await late.goto(`${site.base}/rooms/moving#resume=mistyped`);
  await late.getByText("This code is not good here").waitFor();
  await late.getByRole("button", { name: "Join the line" }).waitFor();
  assert.deepEqual(lateFaults, []);
  await third.close();
  assert.deepEqual([...oldFaults, ...faults], []);
  await Promise.all([laptop.close(), pocket.close()]);
});

test("a room for invited guests lets in who brings the link, or pastes it", { timeout: 240_000 }, async () => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { kty, crv, x } = publicKey.export({ format: "jwk" });
  await site.operate("PUT", "rooms/guests", { title: "The guests", pace_per_min: 0, invite_only: true, invite_keys: [{ kty, crv, x }] });
  const part = (claims) => Buffer.from(JSON.stringify(claims)).toString("base64url");
  const signed = `${part({ alg: "EdDSA", typ: "JWT" })}.${part({ room: "guests", identity: "ada", exp: Math.floor(Date.now() / 1000) + 600 })}`;
  const link = `${site.base}/rooms/guests#invite=${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;

  const contexts = await Promise.all([browser.newContext(phone), browser.newContext(phone)]);
  const { page, faults } = await openPage(contexts[0]);
  await page.goto(site.base + "/rooms/guests");
  await page.getByRole("heading", { name: "This line is for invited guests" }).waitFor();
  await check(page, "invited-phone");
  await page.getByLabel("Your invitation").fill(link.slice(0, -8));
  await page.getByRole("button", { name: "Join with it" }).click();
  await page.getByText("This invitation is not for this room").waitFor();
  await page.getByLabel("Your invitation").fill(link);
  await page.getByRole("button", { name: "Join with it" }).click();
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();

  const { page: again, faults: faultsAgain } = await openPage(contexts[1]);
  await again.goto(link);
  await again.locator("#position", { hasText: /^1$/ }).waitFor();
  assert.equal(again.url(), `${site.base}/rooms/guests`, "the invitation has left the address bar");
  assert.deepEqual([...faults, ...faultsAgain], []);
  await Promise.all(contexts.map((context) => context.close()));
});
