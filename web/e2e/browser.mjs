import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const pictures = fileURLToPath(new URL("./screenshots/", import.meta.url));

export const desktop = { viewport: { width: 1280, height: 820 } };
export const phone = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark" };

const known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"];

/** What is awaited may take this long, ms, on a machine that does other things too. */
const patience = 90_000;

export async function startBrowser() {
  await mkdir(pictures, { recursive: true });
  return chromium.launch({
    timeout: patience,
    executablePath: process.env.CHROMIUM || known.find((path) => existsSync(path)),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** Opens a page whose script errors and refused resources are collected: a healthy page has none. */
export async function openPage(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error.stack ?? error)));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Refused to/.test(message.text())) faults.push(message.text());
  });
  return { page, faults };
}

export const picture = (page, name) => page.screenshot({ path: `${pictures}${name}.png`, fullPage: true });

/** What axe-core finds wrong at WCAG 2.2 AA, a line each. */
export async function accessibilityFaults(page) {
  // Evaluated by the browser's own hand: the page's policy rightly refuses a foreign script element.
  await page.evaluate(await readFile(axe, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
}
