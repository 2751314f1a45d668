// Keeps the page current: asks for it anew every few seconds and puts its live part in place of the old one, and counts
// down in between. Without this the browser asks anew for the whole page (meta refresh).
"use strict";

const stale = document.getElementById("stale");
let ahead = 0; // milliseconds that the server's clock is ahead of ours

function live() {
  return document.getElementById("live");
}

function readClock() {
  ahead = Date.parse(live().dataset.now) - Date.now();
}

// As crikpy.model.quantities.human_span has it.
function span(seconds) {
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  for (const [size, unit, smaller, name] of units) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${unit} ${Math.floor((seconds % size) / smaller)} ${name}`;
    }
  }
  return `${seconds} s`;
}

function countDown() {
  const now = Date.now() + ahead;
  for (const place of document.querySelectorAll("[data-deadline]")) {
    const left = Math.floor((Date.parse(place.dataset.deadline) - now) / 1000);
    place.textContent = left > 0 ? span(left) : "its time is up";
  }
}

// What was opened stays open, and what had the focus keeps it.
function take(page) {
  const opened = [...document.querySelectorAll("details[open]")].map((each) => each.id);
  const focused = live().contains(document.activeElement) ? document.activeElement : null;
  const where = focused && focused.closest("details");
  const fresh = page.getElementById("live");
  live().replaceWith(document.adoptNode(fresh));
  for (const id of opened) {
    const place = document.getElementById(id);
    if (place) place.open = true;
  }
  if (focused && focused.classList.contains("wide")) fresh.querySelector(".wide")?.focus({ preventScroll: true });
  if (where) document.getElementById(where.id)?.querySelector("summary").focus({ preventScroll: true });
  document.title = page.title;
  readClock();
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (answer.status === 401 || answer.status === 403) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    stale.textContent = "";
  } catch {
    stale.textContent = "The controller does not answer: what you see is not current.";
  }
}

async function follow() {
  for (;;) {
    await new Promise((done) => setTimeout(done, 1000 * Number(live().dataset.refresh)));
    await refresh();
  }
}

readClock();
setInterval(countDown, 1000);
document.addEventListener("visibilitychange", refresh);
follow();
