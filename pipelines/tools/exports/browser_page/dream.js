// Plays inside a world model that runs in this browser: no server answers, no game is here.
// read.onnx takes a beginning in, step.onnx imagines one step, decode.onnx draws it. The newest steps are kept: where
// there are as many as the model remembers, the oldest is dropped and the others are read anew.

import { GAME_KEYS, Held, action as meant, legend, pads, readable } from "./keys.js";
import { bars, fit, show } from "./pictures.js";

const $ = (id) => document.getElementById(id);
const long = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

let ort, world, runs;
let frames, actions, memory; // tokens of the newest frames, actions between them, keys and values
let beginning = -1, step, total, ended, passes, forgot;
let pushed = [], newest = null, paused = false, pace = 15, times = [];

async function load() {
  world = await (await fetch("world.json")).json();
  document.title = $("title").textContent = `${world.game} · a world model`;
  ort = await import("./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = 1; // more would need headers that static servers do not send
  runs = {};
  for (const name of ["read", "step", "decode"]) {
    $("link").textContent = `loading ${name}`;
    runs[name] = await ort.InferenceSession.create(`${name}.onnx`, { executionProviders: ["wasm"] });
  }
}

function flat() {
  return frames.flatMap((frame, at) => (at < actions.length ? [...frame, actions[at]] : frame));
}

async function read() {
  const tokens = flat();
  const found = await runs.read.run({ tokens: long(tokens, [1, tokens.length]) });
  memory = { past_keys: found.keys, past_values: found.values };
  return found;
}

async function begin() {
  beginning = (beginning + 1) % world.beginnings.length;
  const { tokens } = world.beginnings[beginning], each = world.tokens + 1;
  frames = [];
  actions = [];
  for (let at = 0; at < tokens.length; at += each) {
    frames.push(tokens.slice(at, at + world.tokens));
    if (at + world.tokens < tokens.length) actions.push(tokens[at + world.tokens]);
  }
  [step, total, ended, passes, forgot] = [0, 0, false, 1, ""];
  const { q } = await read();
  await draw(null, 0, q.data);
}

export async function play(place) {
  [passes, forgot] = [1, ""];
  if (frames.length === world.window) {
    frames.shift();
    actions.shift();
    await read();
    [passes, forgot] = [2, "slide"];
  }
  const number = world.actions[place][1];
  const found = await runs.step.run({ action: long([number], [1]), ...memory });
  memory = { past_keys: found.keys, past_values: found.values };
  frames.push([...found.observation.data].map(Number));
  actions.push(number);
  const reward = Number(found.reward.data[0]);
  [step, total, ended] = [step + 1, total + reward, Number(found.end.data[0]) === 1];
  await draw(place, reward, found.q.data);
}

async function draw(place, reward, q) {
  const { frame } = await runs.decode.run({ observation: long(frames.at(-1), [1, world.tokens]) });
  const [height, width, channels] = world.frame;
  const bytes = new Uint8Array(height * width * channels);
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < height * width; i++) bytes[i * channels + c] = Math.round(frame.data[c * height * width + i] * 255);
  show($("stage"), [{ title: "dream", height, width, channels }], bytes.buffer, 0);
  times = [...times.slice(-30), performance.now()];
  const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
  const facts = {
    step, action: place === null ? "" : readable(world.actions[place][0]), reward, return: total,
    end: ended ? "yes" : "no", from: world.beginnings[beginning].told,
    memory: `${frames.length} of ${world.window} steps`, forgot, "steps/s": rate.toFixed(1),
  };
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value, className: String(value).length > 18 ? "long" : "" }),
  ]));
  bars($("bars"), world.actions.map(([, number]) => q[number]), place, (at) => readable(world.actions[at][0]));
}

const names = () => world.actions.map(([name]) => name);

function wanted() {
  const found = meant(pushed.length ? pushed : newest ? [newest] : [], names());
  newest = null;
  return found ?? Math.max(0, names().indexOf("NOOP"));
}

let asked = null; // "step" or "reset", while the model works

async function run() {
  for (;;) {
    const began = performance.now();
    try {
      if (asked === "reset") { asked = null; await begin(); }
      else if (asked === "step" || !paused) { asked = null; await (ended ? begin() : play(wanted())); }
    } catch (error) { return fail(error); }
    const left = 1000 / (paused ? 60 : pace) - (performance.now() - began);
    await new Promise((done) => setTimeout(done, Math.max(0, left)));
  }
}

function pause(on) {
  paused = on;
  times = [];
  $("pause").textContent = on ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", on);
}

function connect() {
  const held = new Held((all, down) => { pushed = all; if (down) newest = all.at(-1); });
  pads($("compass"), $("fire"), held, names());
  const shown = (keys, what) => {
    const line = document.createElement("p");
    for (const key of keys) line.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    line.append(what);
    return line;
  };
  const rows = [...legend(names()), [["."], "pause"], [["N"], "one step"], [["Return"], "the next beginning"], [["-", "+"], "slower, faster"]];
  const box = document.createElement("div");
  box.append(...rows.map(([keys, what]) => shown(keys, what)));
  $("keys").replaceChildren(box);
  const speed = (value) => {
    pace = Math.max(1, Math.min(60, value));
    $("speed").value = pace;
    $("pace").textContent = `${pace} steps/s`;
  };
  $("pause").onclick = () => pause(!paused);
  $("step").onclick = () => { pause(true); asked = "step"; };
  $("reset").onclick = () => { asked = "reset"; };
  $("speed").oninput = () => speed(Number($("speed").value));
  const others = { ".": () => pause(!paused), n: () => $("step").onclick(), Enter: () => $("reset").onclick(),
    "-": () => speed(pace - 1), "+": () => speed(pace + 1) };
  const name = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const key = name(event), on = event.target.closest?.("button, input, summary, a");
    if (on && ([" ", "Enter"].includes(key) || (on.type === "range" && /^(Arrow|Page|Home|End)/.test(key)))) return;
    if (GAME_KEYS[key]) held.down(key, GAME_KEYS[key]);
    else if (others[key] && !event.repeat) others[key]();
    else return;
    event.preventDefault();
  });
  // After a click with the mouse the keys are the game's again; who tabbed there stays there.
  addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest?.("button, label, input")) $("stage").focus({ preventScroll: true });
  });
  addEventListener("keyup", (event) => held.up(name(event)));
  addEventListener("blur", () => held.clear());
  addEventListener("resize", () => fit($("stage")));
}

function fail(error) {
  document.body.classList.add("lost");
  $("link").textContent = "stopped";
  const note = document.createElement("p");
  note.textContent = `This page cannot play: ${error.message ?? error}`;
  $("notes").append(note);
}

try {
  await load();
  connect();
  $("link").textContent = "playing in this browser";
  await begin();
  run();
} catch (error) { fail(error); }
