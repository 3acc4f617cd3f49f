// The page of play: takes pictures and state from the server, draws them, and sends what is pressed.
// Everything that is shown is text or pixels; nothing that came over the line is read as HTML.

import { Held, action, legend, pads, pushed, readable } from "./keys.js";
import { bars, fit, show } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const MODES = { agent: "Agent in the game", dream: "You in the world model", "dream-agent": "Agent in the world model",
  versus: "Model against game", game: "You in the game", episodes: "Episodes" };
const OTHER_KEYS = [[["."], "pause"], [["N"], "one step"], [["Return"], "reset"], [[","], "record"],
  [["-", "+"], "slower, faster"], [["1", "…"], "mode"], [["K"], "take the controls"], [["?"], "these keys"]];
const EPISODE_KEYS = [[["\u2190", "\u2192"], "one step back, on"], [["Page Down", "Page Up"], "ten steps back, on"],
  [["Space"], "first step"], [["T", "Y", "I"], "recorded, evaluated, imagined ones"], [["B"], "dream from here"],
  [["\u2193", "\u2191"], "previous, next episode"]];
const SETS = { t: "recorded", y: "evaluated", i: "imagined" }; // by the keys of IRIS
const LONGEST_WAIT = 4000; // ms between two tries to connect

let line = null; // the websocket, while it is open
let state = null;
let head = null; // of the newest picture
let wait = 250;
let waiting = null; // the newest picture that is not drawn yet
let drawn = []; // moments of the last pictures
let sought = null; // where the last seek went, until a picture of it comes

// ---- The line

function connect() {
  const socket = new WebSocket(`ws://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { line = socket; wait = 250; drawn = []; linked("connected", true); };
  socket.onmessage = ({ data }) => (typeof data === "string" ? told(JSON.parse(data)) : pictured(data));
  socket.onclose = ({ reason }) => {
    line = null;
    held.clear();
    linked(reason ? `${reason}; trying again` : "connection lost, trying again", false);
    setTimeout(connect, wait);
    wait = Math.min(LONGEST_WAIT, wait * 2);
  };
}

function send(what, more = {}) {
  if (line?.readyState === WebSocket.OPEN) line.send(JSON.stringify({ do: what, ...more }));
}

function linked(text, well) {
  $("link").textContent = text;
  document.body.classList.toggle("lost", !well);
}

export const shownLast = () => head; // for whoever measures the page

function told(message) {
  if (message.is === "note") return note(message.text);
  const before = state;
  state = message;
  if (before?.mode !== state.mode || String(before?.actions) !== String(state.actions)) newMode();
  controls();
}

function note(text) {
  const one = document.createElement("p");
  one.textContent = text;
  $("notes").append(one);
  while ($("notes").childElementCount > 3) $("notes").firstChild.remove();
  setTimeout(() => one.remove(), 12000);
}

// ---- Pictures

function pictured(bytes) {
  if (waiting === null) requestAnimationFrame(draw);
  else send("seen", { number: waiting.head.number }); // a newer one takes its place
  const length = new DataView(bytes).getUint32(0, true);
  waiting = { head: JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length))), bytes, at: 4 + length };
}

function draw() {
  const { head: now, bytes, at } = waiting;
  waiting = null;
  head = now;
  show($("stage"), now.pictures, bytes, at);
  readout();
  send("seen", { number: now.number });
}

// ---- What is read beside them

function readout() {
  const now = performance.now();
  drawn = [...drawn.filter((moment) => now - moment < 1000), now];
  const name = head.action === null ? "none" : state?.actions[head.action] ?? String(head.action);
  const number = (value) => (value === null ? "?" : String(Math.round(value * 1000) / 1000));
  const { values, passes, ...others } = head.facts;
  const facts = passes ? { ...others, "passes a frame": passes } : others;
  const rows = { step: head.step, action: readable(name), reward: number(head.reward), return: number(head.total),
    end: head.ended ? "yes" : "no", ...facts, "steps/s": head.rate.toFixed(1), "frames/s here": drawn.length };
  const list = $("facts");
  if (list.childElementCount !== 2 * Object.keys(rows).length)
    list.replaceChildren(...Object.keys(rows).flatMap(() => ["dt", "dd"].map((tag) => document.createElement(tag))));
  Object.entries(rows).flat().forEach((text, at) => {
    const each = list.children[at];
    if (each.textContent === String(text)) return;
    each.textContent = text;
    each.classList.toggle("long", each.localName === "dd" && each.textContent.length > 13);
  });
  list.classList.toggle("ended", head.ended);
  $("values").hidden = !head.values;
  $("valued").textContent = values ? `Values: ${values}` : "Values";
  if (head.values) bars($("bars"), head.values, head.action, (at) => readable(state?.actions[at] ?? String(at)));
  if (state?.lengths) position();
}

// ---- Controls

const mine = () => state?.plays === "you";

function newMode() {
  held.clear();
  sought = null;
  pads($("compass"), $("fire"), held, state.actions);
  const groups = { "In the game": state.asks ? legend(state.actions) : [],
    "Through the episode": state.lengths ? EPISODE_KEYS : [], Everywhere: OTHER_KEYS };
  $("keys").replaceChildren(...Object.entries(groups).filter(([, rows]) => rows.length).map(([title, rows]) => {
    const group = document.createElement("section");
    const heading = document.createElement("h2");
    heading.textContent = title;
    const columns = document.createElement("div");
    group.append(heading, columns);
    columns.append(...rows.map(([keys, does]) => {
      const row = document.createElement("p");
      row.append(...keys.flatMap((key) => [Object.assign(document.createElement("kbd"), { textContent: key }), " "]), does);
      return row;
    }));
    return group;
  }));
}

function controls() {
  document.title = `${state.title}: ${MODES[state.mode] ?? state.mode}`;
  $("title").textContent = state.title;
  $("people").hidden = state.viewers < 2 && mine();
  $("people").textContent = `${state.viewers} watching; ${{ you: "you play", another: "another page plays",
    nobody: "nobody plays" }[state.plays]}`;
  $("take").hidden = mine();
  if ($("modes").childElementCount !== state.modes.length)
    $("modes").replaceChildren(...state.modes.map((name, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = MODES[name] ?? name;
      button.title = `${MODES[name] ?? name} (${at + 1})`;
      button.onclick = () => send("mode", { name });
      return button;
    }));
  [...$("modes").children].forEach((button, at) => {
    button.setAttribute("aria-pressed", state.modes[at] === state.mode);
    button.classList.toggle("opening", state.modes[at] === state.opening);
  });
  if (state.lengths) kinds();
  for (const where of ["modes", "controls", "scrub", "keep"])
    for (const control of $(where).querySelectorAll("button, input")) control.disabled = !mine();
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", state.paused);
  $("record").textContent = state.recording ? "Stop recording" : "Record";
  $("record").setAttribute("aria-pressed", state.recording);
  $("record").hidden = $("ask").parentElement.hidden = Boolean(state.lengths);
  $("ask").checked = state.ask;
  if (document.activeElement !== $("speed")) $("speed").value = state.speed;
  $("pace").textContent = `${state.speed} steps/s`;
  $("pads").hidden = !state.asks;
  $("scrub").hidden = !state.lengths;
  $("stage").classList.toggle("opening", Boolean(state.opening));
  if (state.asking && mine() && !$("keep").open) $("keep").showModal();
  if (!(state.asking && mine()) && $("keep").open) $("keep").close();
  if (state.lengths && head) position();
}

function kinds() {
  if (String($("sets").dataset.sets) !== String(state.sets)) {
    $("sets").dataset.sets = state.sets;
    $("sets").replaceChildren(...state.sets.map((of) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: of });
      button.onclick = () => choose(of);
      return button;
    }));
  }
  $("sets").hidden = state.sets.length < 2;
  [...$("sets").children].forEach((button, at) => button.setAttribute("aria-pressed", state.sets[at] === state.of));
  $("dream").hidden = !state.modes.includes("dream");
}

function choose(of) {
  sought = null;
  send("choose", { of });
}

function dreamHere() {
  if (state.lengths && head) send("dream", sought ?? { episode: head.episode, step: head.step });
}

function position() {
  const { episode, step } = sought ?? head;
  const length = state.lengths[episode] ?? 0;
  $("which").textContent = `episode ${episode + 1} of ${state.lengths.length}, step ${step} of ${Math.max(0, length - 1)}`;
  $("at").max = Math.max(0, length - 1);
  if (document.activeElement !== $("at") || !sought) $("at").value = step;
  if (sought && head.episode === sought.episode && head.step === sought.step) sought = null;
}

function seek(episode, step) {
  if (!state?.lengths?.length || !head) return;
  episode = Math.max(0, Math.min(state.lengths.length - 1, episode));
  step = Math.max(0, Math.min(state.lengths[episode] - 1, step));
  sought = { episode, step };
  send("seek", sought);
  position();
}

function go(where) {
  const { episode, step } = sought ?? head ?? { episode: 0, step: 0 };
  if (where.startsWith("episode")) seek(episode + (where.endsWith("+") ? 1 : -1), 0);
  else seek(episode, step + Number(where));
}

$("dream").onclick = dreamHere;
const speed = (value) => send("speed", { value: Math.max(1, Math.min(60, value)) });

$("take").onclick = () => send("take");
$("pause").onclick = () => send("pause", { on: !state.paused });
$("step").onclick = () => send("step");
$("reset").onclick = () => send("reset");
$("record").onclick = () => send("record", { on: !state.recording });
$("ask").onchange = () => send("ask", { on: $("ask").checked });
$("speed").oninput = () => speed(Number($("speed").value));
$("at").oninput = () => seek((sought ?? head).episode, Number($("at").value));
$("yes").onclick = () => send("keep", { on: true });
$("no").onclick = () => send("keep", { on: false });
$("keep").oncancel = (event) => event.preventDefault(); // an answer is needed
for (const button of document.querySelectorAll("[data-go]")) button.onclick = () => go(button.dataset.go);
// After a click with the mouse the keys are the game's again; who tabbed there stays there.
document.addEventListener("click", (event) => {
  if (event.detail > 0 && event.target.closest?.("button, label, input")) $("stage").focus({ preventScroll: true });
});

// ---- Keys

const held = new Held((pushes, down) => {
  if (!state?.asks) return;
  const number = action(pushes, state.actions);
  if (down && number !== null) send("press", { action: number });
  else send("hold", { action: number });
});

const COMMANDS = {
  ".": () => $("pause").click(), n: () => send("step"), Enter: () => send("reset"), ",": () => $("record").click(),
  "-": () => speed(state.speed - 1), "+": () => speed(state.speed + 1), "=": () => speed(state.speed + 1),
  k: () => send("take"), "?": () => { $("legend").open = !$("legend").open; },
};
const THROUGH = { ArrowLeft: "-1", ArrowRight: "+1", PageDown: "-10", PageUp: "+10", ArrowDown: "episode-", ArrowUp: "episode+" };

document.addEventListener("keydown", (event) => {
  if (!state || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const on = event.target.closest?.("button, input, select, summary");
  if (on && ([" ", "Enter"].includes(key) || (on.type === "range" && /^(Arrow|Page|Home|End)/.test(key)))) return;
  if ($("keep").open) {
    if (key === "y" || key === "n") $(key === "y" ? "yes" : "no").click();
    return;
  }
  if (key === "Tab" && (on || event.shiftKey)) return; // who goes through the page goes on
  if (state.asks && pushed(key, state.actions)) {
    if (!event.repeat) held.down(key, pushed(key, state.actions));
  } else if (state.lengths && key in THROUGH) go(THROUGH[key]);
  else if (state.lengths && key === " ") seek((sought ?? head).episode, 0);
  else if (state.lengths && key in SETS) choose(SETS[key]);
  else if (state.lengths && key === "b") dreamHere();
  else if (key in COMMANDS) COMMANDS[key]();
  else if (/^[1-9]$/.test(key) && state.modes[key - 1]) send("mode", { name: state.modes[key - 1] });
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => held.up(event.key.length === 1 ? event.key.toLowerCase() : event.key));
window.addEventListener("blur", () => held.clear());
window.addEventListener("resize", () => fit($("stage")));
$("legend").open = window.innerWidth > 800;
connect();
