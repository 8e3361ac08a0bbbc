// Without this file every page works; it adds what is live and what saves a click.
"use strict";

for (const link of document.querySelectorAll("[data-link]")) {
  link.textContent = new URL(link.dataset.link, location.href).href;
}

// What changed: elements by their ids, as the server rendered them.
let source;

function live() {
  source?.close();
  const place = document.querySelector("[data-live]");
  if (!place) return;
  const words = document.querySelector("[data-connection]");
  const connected = (text) => words && (words.textContent = text);
  source = new EventSource(place.dataset.live);
  source.onopen = () => connected("Live.");
  source.onerror = () => connected("Not live at the moment.");
  source.addEventListener("lost", () => connected("The store does not answer."));
  source.onmessage = (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
  };
}

function replace(id, html) {
  const old = document.getElementById(id);
  if (!old) return;
  const found = document.createElement("template");
  found.innerHTML = html;
  const next = found.content.firstElementChild;
  next.classList.add("changed");
  const focusable = (one) => [...one.querySelectorAll("a, button, input, select")];
  const focused = focusable(old).indexOf(document.activeElement);
  old.replaceWith(next);
  if (focused >= 0) focusable(next)[focused]?.focus();
}

// Filters act while one types.
const filters = document.querySelector("[data-filters]");
let waiting, asking;

async function filter() {
  const asked = [...new FormData(filters)].filter(([, value]) => value);
  const url = `${filters.action}?${new URLSearchParams(asked)}`;
  asking?.abort();
  asking = new AbortController();
  try {
    const answer = await fetch(url, { headers: { accept: "text/html" }, signal: asking.signal });
    if (!answer.ok || answer.redirected) return location.assign(url);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("results").replaceWith(page.getElementById("results"));
    history.replaceState(null, "", url);
    live();
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url);
  }
}

filters?.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 200);
});

// "3 min ago" stays true.
function ago(seconds) {
  for (const [least, unit, name] of [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "min"]]) {
    if (seconds >= least) return `${Math.round(seconds / unit)} ${name} ago`;
  }
  return `${Math.max(0, Math.round(seconds))} s ago`;
}

const skew = (Number(document.body.dataset.now) || Date.now()) - Date.now();
setInterval(() => {
  for (const one of document.querySelectorAll("time[data-at]")) {
    const text = ago((Date.now() + skew - Number(one.dataset.at)) / 1000);
    if (one.textContent !== text) one.textContent = text;
  }
}, 1000);

live();

// A chosen file goes into the text that the form sends.
for (const one of document.querySelectorAll("[data-script]")) one.hidden = false;
for (const file of document.querySelectorAll("input[data-into]")) {
  file.addEventListener("change", async () => {
    document.getElementById(file.dataset.into).value = await file.files[0].text();
  });
}
