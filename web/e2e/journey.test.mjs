// One on-sale, end to end, in a real browser against a whole site.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessibilityFaults, desktop, openPage, phone, picture } from "./browser.mjs";
import { browser, check, signIn, site } from "./opening.mjs";

test("a fan waits, is called, chooses two seats, pays and has two tickets, while an operator changes the pace", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/arena", { pace_per_min: 6, capacity: 1000, presence_ttl_s: 600 });
  await site.crowd("arena", 40);

  const context = await browser.newContext(desktop);
  const { page, faults } = await openPage(context);
  // The fan knows the site by another name than the box office does, and stays under it.
  const known = site.base.replace("127.0.0.1", "localhost");
  assert.notEqual(known, site.base);
  await page.goto(known + "/");
  await page.locator(".events li").first().waitFor();
  await picture(page, "shop-desktop");
  await page.locator(`.events a[href="/events/arena"]`).click();
  await page.locator(".dates li").first().waitFor();
  await picture(page, "event-desktop");

  // The seats' page needs a pass, so the fan lands in the waiting room and joins by itself.
  const positions = [];
  page.on("websocket", (socket) => {
    if (!socket.url().endsWith("/place/ws")) return;
    socket.on("framereceived", ({ payload }) => {
      const { position } = JSON.parse(payload);
      if (position !== null) positions.push(position);
    });
  });
  await page.locator(".dates a.primary").first().click();
  await page.waitForURL(/\/rooms\/arena\?return_to=/);
  await page.locator("#line").waitFor();
  await page.waitForFunction(() => /^[\d,]+$/.test(document.getElementById("position").textContent));
  await page.locator("#prices summary").click();
  await picture(page, "waiting-desktop");

  // The operator signs in, sees the room and lets people in faster.
  const desk = await browser.newContext(desktop);
  const { page: console_, faults: consoleFaults } = await openPage(desk);
  await signIn(console_, "/console");
  await console_.locator(`.rooms a[href="/console/rooms/arena"]`).click();
  await console_.locator(".figures").waitFor();
  await console_.locator("#message").fill("Thank you for waiting. Doors open soon.");
  await console_.getByRole("button", { name: "Show it" }).click();
  await page.locator("#message", { hasText: "Thank you for waiting" }).waitFor();
  await console_.getByRole("button", { name: "Pause the line" }).click();
  await page.getByRole("heading", { name: "The line is paused" }).waitFor();
  await console_.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();
  await console_.locator("#pace").fill("300");
  await console_.getByRole("button", { name: "Set the pace" }).click();
  await console_.getByText("The pace is 300 a minute.").waitFor();

  await page.waitForURL(/\/events\/arena\/performances\//);
  await picture(console_, "console-desktop");
  assert.ok(new Set(positions).size >= 3, `positions seen by WebSocket: ${positions}`);
  for (let i = 1; i < positions.length; i++) assert.ok(positions[i] <= positions[i - 1], `the position rose: ${positions}`);

  await page.locator(".zones button:enabled").first().waitFor();
  await picture(page, "seats-desktop");
  await page.locator(".zones button:enabled").first().click();
  const row = page.locator(".rows > li").first();
  await row.locator("button.seat").nth(0).click();
  await row.locator("button.seat").nth(1).click();
  await page.locator(".cart", { hasText: "for 2 tickets" }).waitFor();
  await picture(page, "seats-chosen-desktop");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "Checkout" }).waitFor();
  assert.deepEqual(await accessibilityFaults(page), [], "checkout");
  await page.locator("#name").fill("Ada Lovelace");
  await page.locator("#email").fill("ada@example.org");
  await picture(page, "checkout-desktop");
  await page.getByRole("button", { name: /^Pay / }).click();

  await page.waitForURL(/\/sandbox\/payments\//);
  await picture(page, "sandbox-desktop");
  await page.getByRole("button", { name: /pay|approve/i }).first().click();
  await page.waitForURL(/\/orders\/arena\//);
  assert.equal(new URL(page.url()).origin, known);
  await page.locator(".tickets img").nth(1).waitFor();
  const drawn = await page.locator(".tickets img").evaluateAll((images) => Promise.all(images.map(async (image) => (await image.decode(), image.naturalWidth))));
  assert.equal(drawn.length, 2);
  assert.ok(drawn.every((width) => width > 0), `QR codes drawn: ${drawn}`);
  await picture(page, "tickets-desktop");
  assert.deepEqual(await accessibilityFaults(page), [], "tickets");
  assert.deepEqual(await accessibilityFaults(console_), [], "console");
  assert.deepEqual([...faults, ...consoleFaults], []);

  // The order's link works in another browser, on a phone.
  const pocket = await browser.newContext(phone);
  const stored = await page.evaluate(() => Object.entries(sessionStorage).find(([name]) => name.startsWith("usher-order")));
  assert.ok(stored, "the order's access is kept in the tab");
  const { page: small, faults: smallFaults } = await openPage(pocket);
  await small.goto(`${page.url().split("#")[0]}#access=${encodeURIComponent(stored[1])}`);
  await small.locator(".tickets img").nth(1).waitFor();
  await picture(small, "tickets-phone");
  assert.deepEqual(smallFaults, []);
  await Promise.all([context.close(), desk.close(), pocket.close()]);
});

test("every page fits a phone and has no accessibility fault", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/theatre", { pace_per_min: 600, capacity: 1000 });
  const context = await browser.newContext(phone);
  const { page, faults } = await openPage(context);
  await page.goto(site.base + "/");
  await page.locator(".events li").first().waitFor();
  await check(page, "shop-phone");
  await page.goto(site.base + "/events/theatre");
  await page.locator(".dates li").first().waitFor();
  await check(page, "event-phone");
  await page.locator(".dates a.primary").first().click();
  await page.waitForURL(/\/events\/theatre\/performances\//);
  await page.locator(".zones button:enabled").first().waitFor();
  await check(page, "seats-phone");
  // By keyboard into a section and back: the focus goes along.
  const focused = () => page.evaluate(() => document.activeElement.tagName);
  await page.locator(".zones button:enabled").first().press("Enter");
  assert.equal(await focused(), "H3");
  await page.getByRole("button", { name: "All sections" }).press("Enter");
  assert.equal(await focused(), "H2");
  await page.getByRole("button", { name: "Find 2 seats" }).click();
  await page.locator(".cart", { hasText: "kept for" }).waitFor();
  await check(page, "seats-held-phone");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "Checkout" }).waitFor();
  await check(page, "checkout-phone");

  // A reload keeps the hold; the countdown goes on.
  await page.reload();
  await page.getByRole("heading", { name: "Checkout" }).waitFor();

  await site.operate("PUT", "rooms/club", { state: "paused" });
  await page.goto(site.base + "/rooms/club?return_to=/events/club");
  await page.getByText("The line is paused").waitFor();
  await check(page, "waiting-phone");
  await page.goto(site.base + "/console");
  await page.locator("#password").waitFor();
  await check(page, "sign-in-phone");
  assert.deepEqual(faults, []);
  await site.operate("PUT", "rooms/club", { state: "auto" });
  await context.close();
});

test("what another fan takes is said at once, and at the till something else is offered", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/theatre", { pace_per_min: 600, capacity: 1000 });
  const { performances } = await site.ask("GET", "/api/v1/events/theatre");
  const { seats } = await site.ask("GET", `/api/v1/events/theatre/performances/${performances[1].id}/plan`);
  const hall = `/api/v1/events/theatre/performances/${performances[1].id}`;
  const row = seats.filter((seat) => seat.zone === seats[0].zone && seat.row === seats[0].row);
  const rival = await site.fan("theatre");

  const context = await browser.newContext(desktop);
  const { page, faults } = await openPage(context);
  const choose = async (...wanted) => {
    await page.locator(".zones button:enabled").first().click();
    for (const seat of wanted) await page.locator(".rows > li").first().getByRole("button", { name: new RegExp(`Seat ${seat.label},`) }).click();
  };
  await page.goto(`${site.base}/events/theatre/performances/${performances[1].id}`);
  await page.locator(".zones button:enabled").first().waitFor();
  await choose(row[0], row[1]);
  await rival.post(`${hall}/holds`, { seats: [row[0].index] });
  await page.getByText(`Seat ${row[0].label} was just taken by someone else.`).waitFor();
  await page.locator(".cart", { hasText: "for 1 ticket" }).waitFor();
  await picture(page, "taken-live-desktop");

  // A map that hears nothing more: the box office itself is the one to say no.
  await page.routeWebSocket(/availability\/ws$/, () => {});
  await page.reload();
  await page.locator(".zones button:enabled").first().waitFor();
  await choose(row[2], row[3]);
  const other = await site.fan("theatre");
  await other.post(`${hall}/holds`, { seats: [row[2].index] });
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Take these instead" }).waitFor();
  await picture(page, "taken-alternative-desktop");
  await page.getByRole("button", { name: "Take these instead" }).click();
  await page.locator(".cart", { hasText: "for 2 tickets" }).filter({ hasText: "kept for" }).waitFor();

  // A hold that runs out is said, with a way to try again.
  await page.clock.install();
  await page.clock.fastForward("10:00");
  await page.getByText("We could not keep your seats any longer.").waitFor();
  await page.getByRole("button", { name: "Try the same seats again" }).waitFor();
  assert.deepEqual(faults, []);
  await context.close();
});

test("a lost connection comes back, and without any socket the page asks", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/club", { state: "auto", pace_per_min: 6, capacity: 1000, presence_ttl_s: 600 });
  await site.crowd("club", 8);
  const context = await browser.newContext(desktop);
  const { page, faults } = await openPage(context);
  let sockets = 0;
  let blocked = false;
  let cameBack;
  const second = new Promise((resolve) => (cameBack = resolve));
  await page.routeWebSocket(/place\/ws$/, (socket) => {
    sockets++;
    if (sockets === 2) cameBack();
    if (blocked) return socket.close({ code: 1011 });
    const server = socket.connectToServer();
    const first = sockets === 1;
    server.onMessage((message) => {
      socket.send(message);
      if (first) socket.close({ code: 1012, reason: "reconnect=0.1s" });
    });
  });
  await page.goto(site.base + "/rooms/club?return_to=/events/club");
  await page.waitForFunction(() => document.getElementById("link").textContent === "Live");
  const position = () => page.locator("#position", { hasText: /^\d+$/ }).innerText().then(Number);
  const before = await position();
  assert.ok(before > 0);
  await second;

  blocked = true;
  await page.reload();
  await page.getByText("Reconnecting. Your place is safe.").waitFor();
  const asked = await page.waitForResponse((answer) => answer.url().endsWith("/rooms/club/place") && answer.ok());
  assert.ok((await asked.json()).position <= before);
  assert.ok((await position()) <= before);
  assert.deepEqual(faults, []);
  await context.close();
});

test("without JavaScript a visitor joins, waits by refreshing, and enters", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/club", { state: "auto", pace_per_min: 6, capacity: 1000, presence_ttl_s: 600 });
  await site.crowd("club", 5);
  const context = await browser.newContext({ ...phone, javaScriptEnabled: false });
  const { page, faults } = await openPage(context);
  await page.goto(site.base + "/rooms/club?return_to=/events/club");
  await page.getByRole("button", { name: "Join the line" }).click();
  await page.locator("#position").waitFor();
  assert.match(await page.locator("#position").innerText(), /^\d+$/);
  await picture(page, "waiting-without-script-phone");
  await site.operate("PUT", "rooms/club", { pace_per_min: 600 });
  await page.getByRole("button", { name: "Enter" }).waitFor();
  await picture(page, "called-without-script-phone");
  await page.getByRole("button", { name: "Enter" }).click();
  await page.waitForURL(site.base + "/events/club");
  const cookies = await context.cookies();
  assert.ok(cookies.some((cookie) => cookie.name.includes("usher-pass-club")), "the pass cookie is set");
  assert.deepEqual(faults, []);
  await context.close();
});
