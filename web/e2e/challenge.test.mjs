// A room under attack, as a person's browser meets it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessibilityFaults, openPage, phone } from "./browser.mjs";
import { browser, site } from "./opening.mjs";

test("a challenged visitor gets a place without doing anything, and who cannot compute is offered a wait", { timeout: 240_000 }, async () => {
  await site.operate("PUT", "rooms/arena", { challenge: "always", pace_per_min: 0 });
  const context = await browser.newContext(phone);
  const { page, faults } = await openPage(context);
  const asked = page.waitForResponse((answer) => answer.url().endsWith("/places") && answer.status() === 403);
  await page.goto(site.base + "/rooms/arena");
  assert.equal((await (await asked).json()).challenge.provider, "altcha");
  await page.getByRole("heading", { name: "You’re in line" }).waitFor();
  assert.deepEqual(faults, []);

  const other = await browser.newContext(phone);
  await other.addInitScript(() => Object.defineProperty(globalThis.crypto, "subtle", { value: undefined }));
  const { page: slow } = await openPage(other);
  await slow.goto(site.base + "/rooms/arena");
  await slow.getByText("You can wait instead").waitFor();
  assert.deepEqual(await accessibilityFaults(slow), []);
  await slow.getByRole("button", { name: "Wait instead" }).click();
  await slow.getByRole("heading", { name: "You will get a place without the check" }).waitFor();
});
