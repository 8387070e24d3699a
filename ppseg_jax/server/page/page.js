// The page: what is asked of the server and shown to a person.

import { findScheme } from "./encryption.js";
import { refusalOf } from "./limits.js";

const API = 1; // of the server's interface
const TRIES = 6; // of one picture, where the server is busy or out of reach
const PART = 0.001; // of a picture: classes below it are not in the legend

const get = (id) => document.getElementById(id);
const say = (sentence) => { get("status").textContent = sentence; };
const wait = (seconds) =>
  new Promise((done) => { setTimeout(done, 1000 * seconds); });

const worker = new Worker(new URL("worker.js", import.meta.url),
                          { type: "module" });
const waiting = new Map(); // questions to the worker, by number
let asked = 0;

worker.onmessage = ({ data: { number, reply, error } }) => {
  const { answer, fail } = waiting.get(number);
  waiting.delete(number);
  if (error === undefined) answer(reply);
  else fail(new Error(error));
};
worker.onerror = () => {
  for (const { fail } of waiting.values()) {
    fail(new Error("could not be worked on: the page's worker stopped; load the"
                   + " page again."));
  }
  waiting.clear();
};

function ask(question, data) {
  return new Promise((answer, fail) => {
    waiting.set(asked, { answer, fail });
    worker.postMessage({ number: asked++, question, ...data });
  });
}

// A fetch, tried again where the server is out of reach or names a time; `busy`
// is told in how many seconds. Throws an Error with the server's own sentence.
async function request(url, options, busy) {
  for (let attempt = 1; ; attempt++) {
    let response, problem;
    try {
      response = await fetch(url, {
        cache: "no-store", credentials: "omit", redirect: "error", ...options,
      });
      if (response.ok) return response;
      problem = await response.json().then(({ error }) => error, () => undefined);
      problem ??= `the server answered ${response.status}.`;
    } catch {
      problem = "the server cannot be reached.";
    }
    const told = Number(response?.headers.get("Retry-After"));
    if ((response && !told) || attempt === TRIES) throw new Error(problem);
    const seconds = Math.min(told || 2 ** (attempt - 1), 60);
    busy(seconds);
    await wait(seconds);
  }
}

async function start() {
  let model;
  try {
    const response = await request("v1/model", {}, (seconds) =>
      say(`The server is not ready; asking again in ${seconds} s.`));
    model = await response.json();
  } catch (error) {
    get("leak").textContent = "";
    say(`Nothing can be sent: ${error.message}`);
    return;
  }
  if (model.api !== API) {
    get("leak").textContent = "";
    say("This page and its server are of different versions; load it again.");
    return;
  }
  const { scheme, block, classes, largest } = model;
  get("leak").textContent = model.leak;
  get("model").textContent =
    `Scheme ${scheme}, blocks of ${block}x${block} pixels, ${classes.length} classes.`;
  const refusal = refusalOf(model);
  if (refusal) {
    say(refusal);
    return;
  }
  get("taken").textContent =
    `PNG or JPEG, up to ${largest[1]}x${largest[0]} pixels`;
  get("files").disabled = false;
  say("");
  listen(model);
}

function listen(model) {
  const drop = get("drop");
  let queue = Promise.resolve();
  const tally = { all: 0, done: 0, failed: 0 };
  const take = (files) => {
    for (const file of files) {
      const card = newCard(file.name);
      tally.all++;
      queue = queue.then(() => segment(file, model, card, tally));
    }
  };
  get("files").addEventListener("change", ({ target }) => {
    take(target.files);
    target.value = ""; // the same picture may be chosen again
  });
  get("opacity").addEventListener("input", ({ target }) => {
    get("percent").textContent = `${target.value} %`;
    target.setAttribute("aria-valuetext", `${target.value} %`);
    get("cards").style.setProperty("--opacity", target.value / 100);
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    // Dropped beside the field, a picture would replace the page.
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
}

async function segment(file, model, card, tally) {
  const state = (sentence) => {
    card.querySelector(".state").textContent = sentence;
    say(`${file.name}: ${sentence}`);
  };
  const key = crypto.getRandomValues(new Uint32Array(4));
  try {
    state("encrypting…");
    const encrypted = await ask("encrypt", {
      file: await file.arrayBuffer(), key, model, shrinks: get("shrink").checked,
    });
    const { plain, cipher, png } = encrypted;
    show(card, ".plain", plain, `${file.name}, as it is`);
    show(card, ".cipher", cipher, `${file.name}, encrypted`);
    card.querySelector(".cipher span").textContent =
      `what is sent, ${Math.ceil(png.length / 1024)} KiB`;

    state("sent; waiting for the answer…");
    const answer = await send(png, model, (seconds) =>
      state(`the server is busy; trying again in ${seconds} s.`));
    const { colours, counts, png: labels } = await ask("read", {
      answer, key, model, plain: sizeOf(plain), sent: sizeOf(cipher),
    });

    show(card, ".answer", plain, "");
    const shares = sharesOf(counts, model);
    const names = shares.map(({ name, percent }) => `${name} ${percent}`);
    show(card, ".answer", colours, `Labels of ${file.name}: ${names.join(", ")}`,
         "over");
    addLegend(card, shares);
    offer(card, labels, file.name);
    tally.done++;
    state(`done, ${plain.width}x${plain.height} pixels.`);
  } catch (error) {
    tally.failed++;
    card.classList.add("failed");
    state(error.message);
  } finally {
    key.fill(0);
    if (tally.done + tally.failed === tally.all && tally.all > 1) {
      say(`${tally.done} of ${tally.all} pictures done`
          + (tally.failed ? `, ${tally.failed} refused.` : "."));
    }
  }
}

const sizeOf = ({ width, height }) => ({ width, height });

async function send(png, { scheme, block }, busy) {
  const { hidden } = findScheme(scheme);
  const query = new URLSearchParams({ scheme, block });
  const response = await request(`v1/segment?${query}`, {
    method: "POST", body: png,
    headers: {
      "Content-Type": "image/png",
      Accept: hidden ? "application/x-npy" : "image/png",
    },
  }, busy);
  return response.arrayBuffer();
}

function newCard(name) {
  const card = get("card").content.cloneNode(true).firstElementChild;
  card.querySelector("h3").textContent = name;
  card.querySelector(".state").textContent = "waiting…";
  get("cards").append(card);
  get("results").hidden = false;
  return card;
}

function show(card, place, { pixels, width, height }, label, kind = "under") {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.className = kind;
  // Where pixels are to be seen: smoothing would undo a part of the encryption.
  canvas.classList.toggle("sharp", width < 640 || place === ".cipher");
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else {
    canvas.setAttribute("aria-hidden", "true");
  }
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  card.querySelector(`${place} .frame`).append(canvas);
}

// The classes of a picture, the largest first.
function sharesOf(counts, { classes }) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return classes
    .map((each) => ({ ...each, share: counts[each.id] / all }))
    .filter(({ share }) => share >= PART)
    .sort((a, b) => b.share - a.share)
    .map((each) => ({ ...each, percent: percent(each.share) }));
}

const percent = (share) =>
  `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function addLegend(card, shares) {
  for (const { name, colour, percent } of shares) {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.setProperty("--colour", `rgb(${colour.join(" ")})`);
    const share = document.createElement("span");
    share.className = "share";
    share.textContent = ` ${percent}`;
    item.append(swatch, name, share);
    card.querySelector(".legend").append(item);
  }
}

function offer(card, png, name) {
  const link = card.querySelector(".save");
  link.href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  link.download = name.replace(/\.[^.]*$/, "") + ".png";
  link.setAttribute("aria-label", `Download labels of ${name}`);
  link.hidden = false;
}

start();
