// What every file of browser tests begins with: a site and a browser of its own, and what is asked of every page.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { accessibilityFaults, picture, startBrowser } from "./browser.mjs";
import { startSite } from "./site.mjs";

export let site;
export let browser;

before(async () => {
  [site, browser] = await Promise.all([startSite(), startBrowser()]);
}, { timeout: 240_000 });

after(async () => {
  await browser?.close();
  await site?.stop();
}, { timeout: 120_000 });

/** Takes the picture of a page that must fit its window and have no accessibility fault. */
export async function check(page, name) {
  await picture(page, name);
  const wide = await page.evaluate((width) => document.documentElement.scrollWidth - width, page.viewportSize().width); // a phone's innerWidth grows with the page
  assert.ok(wide <= 0, `${name} is ${wide} px too wide`);
  assert.deepEqual(await accessibilityFaults(page), [], name);
}

/** Opens a page of the console as the demo's admin. */
export async function signIn(page, path) {
  const { email, password } = (await site.operators()).find(({ role }) => role === "admin");
  await page.goto(site.base + path);
  await page.locator("#email").fill(email);
  await page.locator("#password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}
