// The gateway's page in a browser, asked line by line.
//
//   node browser.mjs CHROMIUM ADDRESS
//
// Opens the page at ADDRESS in an empty profile, then answers each line of JSON with one. `do` names what is asked for, below.
// Whatever the page asks of anybody but ADDRESS is refused and written down. Ends when its standard input does.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [program, address] = process.argv.slice(2);
if (!address) {
  process.stderr.write("usage: browser.mjs CHROMIUM ADDRESS\n");
  process.exit(2);
}

/** A step that takes longer has failed: proofs are made by debug builds meanwhile. */
const PATIENCE = 180_000;
const DESK = { width: 1280, height: 900 };
/** Of small phones. */
const PHONE = { width: 360, height: 740 };
/** What a page must bear without scrolling sideways (WCAG 2.2, 1.4.10). */
const NARROW = { width: 320, height: 568 };
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath: program,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run",
    // Not even a name is asked for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
});
const context = await browser.newContext({ viewport: DESK, colorScheme: "light" });
context.setDefaultTimeout(PATIENCE);

const elsewhere = [];
const complaints = [];
await context.route("**/*", (route) => {
  if (new URL(route.request().url()).origin === address) return route.continue();
  elsewhere.push(route.request().url());
  return route.abort();
});
context.on("weberror", (error) => complaints.push(String(error.error())));
context.on("console", (message) => {
  // A gateway that is not there is reported so, and is meant.
  const gone = message.text().includes("net::ERR_CONNECTION_REFUSED");
  if (message.type() !== "log" && !gone) complaints.push(message.text());
});

const page = await context.newPage();
let loads = 0;
page.on("framenavigated", () => (loads += 1));
await page.goto(address);

/** Values that the bar of an update took, as the page itself changed them. The name is one that the page does not use itself. */
const values = [];
await page.exposeFunction("posthouseTestBar", (value) => values.push(value));
await page.evaluate(() => {
  new MutationObserver((changes) => {
    for (const { target } of changes) if (target.matches?.("progress")) globalThis.posthouseTestBar(target.value / target.max);
  }).observe(document.getElementById("cards"), { subtree: true, attributeFilter: ["value"] });
});

/** Rules of axe for WCAG's levels A and AA that the page breaks. */
async function broken(of) {
  await of.evaluate(axe);
  return of.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await globalThis.axe.run(document, { runOnly: tags });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target).join(" ")}`);
  });
}

/** What has the focus, by its role and name. */
const focused = () =>
  page.evaluate(() => {
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const name = one.labels?.[0]?.textContent ?? one.textContent;
    return { tag: one.localName, id: one.id, name: name.trim(), seen: style.outlineStyle !== "none" && style.outlineWidth !== "0px" };
  });

const tasks = {
  /** Waits until the page shows this text. */
  async see({ text }) {
    await page.getByText(text, { exact: false }).first().waitFor();
    return {};
  },

  /** Waits until the update's sensors stand so, and says which values its bar had on the way, and how often the page was loaded. */
  async progress({ name, text }) {
    await page.getByRole("progressbar", { name: new RegExp(name) }).waitFor();
    await page.getByRole("article", { name: new RegExp(name) }).getByText(text).waitFor();
    return { values, loads };
  },

  /** The lines of the table that have this text. */
  async rows({ text }) {
    return { rows: await page.getByRole("row").filter({ hasText: text }).allInnerTexts() };
  },

  /** What a screen reader is told, and what is wrong with it, in both colour schemes and on a phone. */
  async reads() {
    const faults = [];
    await page.locator("summary").first().click();
    for (const [viewport, colorScheme] of [[DESK, "light"], [DESK, "dark"], [PHONE, "light"]]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      faults.push(...(await broken(page)));
    }
    const phone = await page.locator("body").ariaSnapshot();
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize(DESK);
    const desk = await page.locator("body").ariaSnapshot();
    await page.locator("summary").first().click();
    return { faults, desk, phone };
  },

  /** Goes through the page by the tabulator key, and says where it has been, and what it should have reached. */
  async keys() {
    const stops = page.locator("a, button, select, input, summary");
    const wanted = await stops.count();
    await stops.last().focus();
    await page.keyboard.press("Tab"); // out of the page, before its begin
    const order = [];
    for (let i = 0; i < wanted; i += 1) {
      await page.keyboard.press("Tab");
      order.push(await focused());
    }
    return { wanted, order };
  },

  /** Has the table show some sensors only, by the keyboard. */
  async filter({ keys, rows }) {
    await page.getByRole("combobox", { name: "Show" }).focus();
    for (const key of keys) await page.keyboard.press(key);
    await page.waitForFunction((rows) => document.querySelectorAll("#rows tr").length === rows, rows);
    return {};
  },

  /** How wide the page is on narrow screens, beside the screen. */
  async phone() {
    await page.locator("summary").first().click();
    const widths = [];
    for (const viewport of [PHONE, NARROW]) {
      await page.setViewportSize(viewport);
      widths.push({ screen: viewport.width, page: await page.evaluate(() => document.documentElement.scrollWidth) });
    }
    await page.locator("summary").first().click();
    await page.setViewportSize(DESK);
    return { widths };
  },

  /** Waits until the page says that the gateway does not answer, or no longer says it. */
  async trouble({ there }) {
    const trouble = page.getByRole("alert");
    const wanted = there ? /does not answer/ : /^$/;
    await trouble.filter({ hasText: wanted }).waitFor({ state: "attached" });
    return { text: await trouble.textContent() };
  },

  /** What the page makes of an answer in which every text is HTML, as many times as an answer may have it. */
  async hostile() {
    const evil = `<img src=x onerror="document.title='stolen'"><script>document.title='stolen'</script>`;
    const other = await context.newPage();
    await other.route("**/v1/overview*", async (route) => {
      const honest = await (await route.fetch()).json();
      const spoil = (value) => {
        if (typeof value === "string") return evil;
        if (Array.isArray(value)) return value.map(spoil);
        if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, spoil(v)]));
        return value;
      };
      const spoilt = spoil(honest);
      spoilt.updates = honest.updates.flatMap((update, i) => Array.from({ length: 32 }, (_, n) => ({
        ...spoilt.updates[i], update: { ...spoilt.updates[i].update, bounty: `${n}${evil}` },
      })));
      spoilt.devices = Array.from({ length: 100 }, () => spoilt.devices[0]);
      await route.fulfill({ json: spoilt });
    });
    await other.goto(address);
    await other.getByRole("article").nth(31).waitFor();
    const found = await other.evaluate(() => ({
      title: document.title,
      made: document.querySelectorAll("main img, main script").length,
      rows: document.querySelectorAll("#rows tr").length,
      shown: document.body.innerText.includes("<img src=x onerror="),
      nodes: document.querySelectorAll("*").length,
    }));
    await other.close();
    return found;
  },

  /** How often the page asks in a minute while nobody looks, and in one while somebody does. */
  async hidden() {
    const other = await context.newPage();
    await other.clock.install();
    let asked = 0;
    other.on("request", (request) => (asked += request.url().includes("/v1/") ? 1 : 0));
    await other.goto(address);
    await other.getByRole("row").nth(1).waitFor();
    const look = (hidden) => other.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await look(true);
    const before = asked;
    await other.clock.runFor(60_000);
    const meanwhile = asked - before;
    const again = other.waitForRequest((request) => request.url().includes("/v1/"));
    await look(false);
    await again;
    await other.close();
    return { meanwhile };
  },

  /** Keeps what is to be seen, in files of the documentation. */
  async screenshots({ folder }) {
    await page.setViewportSize({ width: 960, height: 900 });
    await page.screenshot({ path: `${folder}/page.png` });
    await page.setViewportSize(PHONE);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.screenshot({ path: `${folder}/page-phone.png` });
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize(DESK);
    return {};
  },

  /** Whom else the page has asked for something, and what the browser had to say. */
  async said() {
    return { elsewhere, complaints, loads };
  },
};

process.stdout.write(`${JSON.stringify({ open: await page.title() })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...args } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await tasks[name](args))}\n`);
}
await browser.close();
