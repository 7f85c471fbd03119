// Shows /v1/overview, asks for it again and again, and changes only what has changed, so that neither focus nor a screen reader's
// place is lost. What comes is text and stays text.
"use strict";

/** While something moves, ms. */
const FAST = 1000;
/** While nothing does. */
const SLOW = 5000;
/** So long after the last change something is said to move, ms. */
const LIVELY = 30000;
/** From the last key that was pressed to a question, ms. */
const TYPED = 250;
/** Longest pause while the gateway does not answer. */
const LONGEST = 30000;
/** It answers within five seconds, or says that it cannot. */
const PATIENCE = 8000;
/** Between two announcements to a screen reader. */
const SAY_EVERY = 10000;
/** Sensors on a page of the table. */
const ROWS = 25;
/** Steps of a progress bar. */
const STEPS = 1000;

const at = (id) => document.getElementById(id);
const view = { offset: 0, found: 0 };
let timer = 0;
let asking = null;
let failures = 0;
let lastGood = "";
let saidAt = -SAY_EVERY;

/** Text that is there already is left alone: each change is one to whoever listens. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(name, classes, ...children) {
  const node = document.createElement(name);
  if (classes) node.className = classes;
  node.append(...children);
  return node;
}

function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1048576) return `${(bytes / 1024).toFixed(1)} KiB`;
  if (bytes < 1073741824) return `${(bytes / 1048576).toFixed(1)} MiB`;
  return `${(bytes / 1073741824).toFixed(1)} GiB`;
}

function day(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? String(seconds) : date.toISOString().slice(0, 16).replace("T", " ") + " UTC";
}

/** How much of an image all sensors of an update have together, 0 to 1. */
function part({ update, sensors, updated, fetched }) {
  if (sensors === 0) return 0;
  return Math.min(1, (updated + (update.size ? fetched / update.size : 0)) / sensors);
}

function ran({ sensors, updated, superseded_by: by, waits_for: waits }) {
  if (sensors > 0) return `${updated} of ${sensors} sensors run it`;
  if (by != null) return `replaced by version ${by}`;
  return waits === "" ? "no sensor runs it" : "no sensor of this product yet";
}

/** Pairs of a term and what it is. */
function facts(list, pairs) {
  const wanted = pairs.filter(([, value]) => value !== "");
  while (list.children.length > wanted.length * 2) list.lastChild.remove();
  while (list.children.length < wanted.length * 2) list.append(make("dt"), make("dd"));
  wanted.forEach(([term, value], i) => {
    say(list.children[2 * i], term);
    say(list.children[2 * i + 1], value);
  });
}

/** A list of lines, under a heading that is not there without them. */
function lines(heading, list, texts) {
  heading.hidden = list.hidden = texts.length === 0;
  while (list.children.length > texts.length) list.lastChild.remove();
  while (list.children.length < texts.length) list.append(make("li"));
  texts.forEach((text, i) => say(list.children[i], text));
}

let cards = 0;

/** An update: what it is, how far it is, what it waits for, and what happened. */
class Card {
  constructor() {
    const id = `card-${(cards += 1)}`;
    this.title = make("span");
    this.state = make("span", "state");
    const heading = make("h3", "", this.title, " · ", this.state);
    heading.id = `${id}-title`;
    this.count = make("p");
    this.count.id = `${id}-count`;
    this.bar = make("progress");
    this.bar.max = STEPS;
    this.bar.setAttribute("aria-labelledby", `${heading.id} ${this.count.id}`);
    this.wait = make("p", "soft");
    this.bad = make("p", "bad");
    this.facts = make("dl", "facts");
    this.leftTitle = make("h4", "", "Distributors that were left");
    this.left = make("ul");
    this.eventsTitle = make("h4", "", "What happened last");
    this.events = make("ol");
    this.summary = make("summary");
    const more = make("details", "", this.summary, this.facts, this.leftTitle, this.left, this.eventsTitle, this.events);
    this.node = make("article", "", heading, this.count, this.bar, this.wait, this.bad, more);
    this.node.setAttribute("aria-labelledby", heading.id);
  }

  show(one, now) {
    const { update } = one;
    say(this.title, `Version ${update.version}`);
    const order = { approve: ", approved", pause: ", paused", cancel: ", cancelled" }[update.order] ?? "";
    say(this.state, `${update.state}${order}`);
    const stuck = [one.held && `${one.held} held`, one.faulty && `${one.faulty} faulty`].filter(Boolean);
    say(this.count, [ran(one), ...stuck].join(", "));
    this.bar.value = Math.floor(part(one) * STEPS);
    say(this.wait, one.waits_for && `Waits for: ${one.waits_for}`);
    this.wait.hidden = !one.waits_for;
    say(this.bad, update.error ?? "");
    this.bad.hidden = !update.error;
    say(this.summary, `More about version ${update.version}`);
    facts(this.facts, [
      ["Product", update.product],
      ["Bounty", update.bounty],
      ["Vendor", update.vendor],
      ["Image", update.size == null ? "" : `${size(update.size)}, by ${update.mode}`],
      ["Claims end", day(update.claim_by)],
      ["Distributor", one.distributor ?? ""],
      ["Receipts", `${one.signed} signed, ${one.paid} paid`],
      ["Replaced by", one.superseded_by == null ? "" : `version ${one.superseded_by}`],
      ["Orders", Object.entries(update.group_orders).map(([group, order]) => `${group}: ${order}`).join(", ")],
    ]);
    lines(this.leftTitle, this.left, one.left.map((left) => `${left.peer}: ${left.why}${left.banned ? " (not asked again)" : ""}`));
    lines(this.eventsTitle, this.events, one.events.map((event) => `${ago(now - event.at)} ago: ${event.text}`));
  }
}

/** A sensor's line. */
class Row {
  constructor() {
    this.id = make("span", "id");
    this.by = make("span", "soft");
    const head = make("th", "", this.id, make("br"), this.by);
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    this.version = make("td", "version");
    this.standing = make("b");
    this.why = make("span");
    this.stands = make("td", "", this.standing, this.why);
    this.time = make("time");
    this.heard = make("td", "heard", this.time);
    for (const cell of [this.version, this.stands, this.heard]) cell.setAttribute("role", "cell");
    this.node = make("tr", "", head, this.version, this.stands, this.heard);
    this.node.setAttribute("role", "row");
  }

  show({ device, standing, why }, now, sizes) {
    say(this.id, device.device);
    say(this.by, device.group == null ? device.carrier : `${device.carrier}, ${device.group}`);
    const moves = standing !== "current" && device.target != null;
    say(this.version, moves ? `${device.installed} → ${device.target}` : String(device.installed));
    say(this.standing, standing === "current" ? "up to date" : standing);
    const whole = sizes.get(`${device.product} ${device.target}`);
    const has = standing === "fetching" && whole ? `: ${Math.floor((100 * Math.min(device.next ?? 0, whole)) / whole)} %` : "";
    say(this.why, why == null ? has : `: ${why}`);
    const stands = `stands ${standing}`;
    if (this.stands.className !== stands) this.stands.className = stands;
    say(this.time, device.last_seen === 0 ? "never" : ago(now - device.last_seen));
  }
}

/** As many nodes as there are things to show: each is reused for what comes in its place. */
function fill(parent, kept, things, Kind, show) {
  while (kept.length > things.length) kept.pop().node.remove();
  while (kept.length < things.length) {
    const one = new Kind();
    kept.push(one);
    parent.append(one.node);
  }
  things.forEach((thing, i) => show(kept[i], thing));
}

const shown = { cards: new Map(), rows: [] };

/** Cards keep their place in the document and whether they are open, whatever the order of the answer. */
function showUpdates(all) {
  const wanted = new Set(all.updates.map((one) => one.update.bounty));
  for (const [bounty, card] of shown.cards) {
    if (!wanted.has(bounty)) {
      card.node.remove();
      shown.cards.delete(bounty);
    }
  }
  let before = null;
  for (const one of all.updates) {
    const { bounty } = one.update;
    if (!shown.cards.has(bounty)) shown.cards.set(bounty, new Card());
    const card = shown.cards.get(bounty);
    const place = before ? before.nextSibling : at("cards").firstChild;
    if (place !== card.node) at("cards").insertBefore(card.node, place);
    card.show(one, all.at);
    before = card.node;
  }
  at("no-updates").hidden = all.updates.length > 0;
  say(at("more-updates"), all.more_updates ? `${all.more_updates} more that are over.` : "");
}

function showChain({ trust, id, finalized, age_secs: age, alarm, error, last_error: last }) {
  const final = finalized == null ? "no final block read yet" : `final block ${finalized}, ${ago(age * 1000)} old`;
  say(at("chain"), `${id}, by ${trust === "rpc" ? "endpoints that are believed" : "light client"}: ${final}`);
  say(at("alarm"), [alarm, error, last].filter(Boolean).join("; "));
}

function show(all) {
  const { agent, chain, staging } = all.status;
  say(at("agent"), `Version ${agent.version}, peer ${agent.peer_id}, ${agent.devices} sensors`);
  for (const [standing, count] of Object.entries(all.sensors)) {
    say(at(standing), String(count));
    at(standing).classList.toggle("some", count > 0 && (standing === "faulty" || standing === "held"));
  }
  showChain(chain);
  at("quota").max = Math.max(1, staging.quota);
  at("quota").value = staging.bytes;
  say(at("staging"), `${staging.images} ${staging.images === 1 ? "image" : "images"}, ${size(staging.bytes)} of ${size(staging.quota)}`);
  showUpdates(all);
  const sizes = new Map(all.updates.map(({ update }) => [`${update.product} ${update.version}`, update.size]));
  fill(at("rows"), shown.rows, all.devices, Row, (row, one) => row.show(one, all.at, sizes));
  view.found = all.found;
  const [first, last] = [view.offset + 1, view.offset + all.devices.length];
  say(at("found"), all.devices.length ? `Sensors ${first} to ${last} of ${all.found}` : "No sensor is so");
  able(at("back"), view.offset > 0);
  able(at("on"), last < all.found);
  announce(all);
}

/** A button that can do nothing now keeps the focus that it has, and says so. */
function able(button, can) {
  if (can) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

/** In words, now and then, for screen readers only: others see it move. */
function announce(all) {
  if (performance.now() - saidAt < SAY_EVERY) return;
  const active = all.updates.filter((one) => one.waits_for !== "").map((one) => `Version ${one.update.version}: ${ran(one)}`);
  const { faulty, held } = all.sensors;
  const text = [all.status.chain.alarm, active.length ? active.slice(0, 3).join("; ") : "No update is under way", faulty && `${faulty} faulty`, held && `${held} held`];
  const line = text.filter(Boolean).join("; ") + ".";
  if (at("said").textContent === line) return;
  say(at("said"), line);
  saidAt = performance.now();
}

function query() {
  const query = new URLSearchParams({ limit: ROWS, offset: view.offset });
  if (at("show").value) query.set("show", at("show").value);
  if (at("find").value) query.set("find", at("find").value);
  return query;
}

let last = "";
let movedAt = 0;

/** Whether an update has gone on lately: one that waits for a sensor for weeks is no reason to ask each second. */
function moved(all) {
  const now = all.updates.map((one) => [one.update.bounty, one.update.state, one.fetched, one.updated, one.signed, one.paid]).join();
  if (now !== last) movedAt = performance.now();
  last = now;
  return performance.now() - movedAt < LIVELY;
}

/** Asks once, and sees to it that it is asked again. What was asked before and has not come yet is not waited for. */
async function ask() {
  clearTimeout(timer);
  asking?.abort();
  asking = null; // what was aborted is no failure
  if (document.hidden) return; // asked again when it is looked at
  const mine = (asking = new AbortController());
  let pause = SLOW;
  try {
    const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(PATIENCE)]);
    const answer = await fetch(`/v1/overview?${query()}`, { signal, cache: "no-store" });
    const all = await answer.json();
    if (!answer.ok) throw new Error(all.error);
    if (mine !== asking) return;
    if (view.offset > 0 && all.devices.length === 0) return look(Math.floor(Math.max(0, all.found - 1) / ROWS) * ROWS);
    show(all);
    failures = 0;
    lastGood = new Date().toLocaleTimeString();
    say(at("trouble"), "");
    pause = moved(all) ? FAST : SLOW;
  } catch (why) {
    if (mine !== asking) return;
    failures += 1;
    const then = lastGood ? ` What is below is of ${lastGood}.` : "";
    say(at("trouble"), `The gateway does not answer (${why.message}).${then}`);
    pause = Math.min(LONGEST, FAST * 2 ** Math.min(failures, 10));
  }
  timer = setTimeout(ask, pause);
}

function look(offset) {
  view.offset = offset;
  ask();
}

at("show").addEventListener("change", () => look(0));
at("find").addEventListener("input", () => {
  clearTimeout(timer);
  view.offset = 0;
  timer = setTimeout(ask, TYPED);
});
at("back").addEventListener("click", () => view.offset > 0 && look(Math.max(0, view.offset - ROWS)));
at("on").addEventListener("click", () => view.offset + ROWS < view.found && look(view.offset + ROWS));
document.addEventListener("visibilitychange", ask);
ask();
