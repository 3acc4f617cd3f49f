// Keys and touch pads, and the action that they name together. Keys as IRIS and REM have them; two directions that are
// held at once make the diagonal, and where a game has no direction with fire, arrows mean the direction alone.
// Crafter's actions are no pushes but names, with keys as its own player and Delta-IRIS have them.

const NAMES = { "0,-1": "UP", "0,1": "DOWN", "-1,0": "LEFT", "1,0": "RIGHT", "-1,-1": "UPLEFT", "1,-1": "UPRIGHT",
  "-1,1": "DOWNLEFT", "1,1": "DOWNRIGHT", "0,0": "" };

const push = (x, y, fire = false) => ({ x, y, fire });

// By the letter or the name of the key.
const GAME_KEYS = {
  " ": push(0, 0, true),
  w: push(0, -1), d: push(1, 0), a: push(-1, 0), s: push(0, 1),
  t: push(1, -1), r: push(-1, -1), g: push(1, 1), f: push(-1, 1),
  ArrowUp: push(0, -1, true), ArrowRight: push(1, 0, true), ArrowLeft: push(-1, 0, true), ArrowDown: push(0, 1, true),
  u: push(1, -1, true), y: push(-1, -1, true), j: push(1, 1, true), h: push(-1, 1, true),
};

// Actions that are not a direction with or without fire, by the key; a game that has them takes the key for them.
const NAMED_KEYS = {
  " ": "do", Tab: "sleep", z: "sleep", r: "place_stone", t: "place_table", f: "place_furnace", p: "place_plant",
  1: "make_wood_pickaxe", 2: "make_stone_pickaxe", 3: "make_iron_pickaxe",
  4: "make_wood_sword", 5: "make_stone_sword", 6: "make_iron_sword",
};
const MOVES = { "0,-1": "move_up", "0,1": "move_down", "-1,0": "move_left", "1,0": "move_right" };

// What a key pushes in a game of these actions, or null where it is none of the game's.
export function pushed(key, actions) {
  if (actions.includes(NAMED_KEYS[key])) return { ...push(0, 0), name: NAMED_KEYS[key] };
  return GAME_KEYS[key] ?? null;
}

const SHOWN = { " ": "Space", ArrowUp: "\u2191", ArrowRight: "\u2192", ArrowLeft: "\u2190", ArrowDown: "\u2193" };

export const shown = (key) => SHOWN[key] ?? (key.length === 1 ? key.toUpperCase() : key);

// The number of the action that these pushes name together, or null where the game has none such.
export function action(pushes, actions) {
  for (const each of [...pushes].reverse()) { // one at a time: the newest counts
    const names = [each.name, MOVES[`${each.x},${each.y}`], each.fire && !each.x && !each.y ? "do" : ""];
    const found = names.map((name) => actions.indexOf(name)).find((at) => at >= 0);
    if (found !== undefined) return found;
  }
  const clip = (sum) => Math.max(-1, Math.min(1, sum));
  const x = clip(pushes.reduce((sum, each) => sum + each.x, 0));
  const y = clip(pushes.reduce((sum, each) => sum + each.y, 0));
  const fire = pushes.some((each) => each.fire);
  const tried = [[x, y, fire], [x, y, false]];
  const last = pushes.at(-1);
  if (last) tried.push([last.x, last.y, last.fire], [last.x, last.y, false]); // the newest push alone
  for (const [right, down, fires] of tried) {
    const name = NAMES[`${right},${down}`] + (fires ? "FIRE" : "");
    const found = name ? actions.indexOf(name) : -1;
    if (found >= 0) return found;
  }
  return null;
}

// What is held, by whatever key or pad, newest last; tells `changed` the action and whether something went down.
export class Held {
  #held = new Map();
  #changed;
  constructor(changed) { this.#changed = changed; }
  down(what, pushed) {
    if (this.#held.has(what)) return;
    this.#held.set(what, pushed);
    this.#changed([...this.#held.values()], true);
  }
  up(what) {
    if (this.#held.delete(what)) this.#changed([...this.#held.values()], false);
  }
  clear() {
    if (!this.#held.size) return;
    this.#held.clear();
    this.#changed([], false);
  }
}

// [keys, what they do], for the legend: those of which this game has an action.
export function legend(actions) {
  const found = new Map();
  for (const key of new Set([...Object.keys(GAME_KEYS), ...Object.keys(NAMED_KEYS)])) {
    const what = pushed(key, actions);
    const at = what && action([what], actions);
    if (at !== null) found.set(actions[at], [...(found.get(actions[at]) ?? []), shown(key)]);
  }
  return [...found].map(([name, keys]) => [keys, readable(name)]);
}

// UPRIGHTFIRE as "up right + fire".
export function readable(name) {
  if (!/^(NOOP|(UP|DOWN)?(LEFT|RIGHT)?(FIRE)?)$/.test(name)) return name.replaceAll("_", " ");
  const way = name.replace(/FIRE$/, "").replace(/(UP|DOWN)(?=.)/, "$1 ").toLowerCase();
  return [way, name.endsWith("FIRE") ? "fire" : ""].filter(Boolean).join(" + ");
}

// Eight directions around a middle, as buttons that several fingers may press at once.
export function pads(compass, fire, held, actions) {
  const offered = (way) => action([way], actions) !== null;
  const arrows = ["\u2196", "\u2191", "\u2197", "\u2190", "", "\u2192", "\u2199", "\u2193", "\u2198"];
  compass.replaceChildren(...arrows.map((sign, at) => {
    const way = push((at % 3) - 1, Math.floor(at / 3) - 1);
    const button = document.createElement(sign ? "button" : "span");
    if (!sign) return button;
    button.type = "button";
    button.textContent = sign;
    button.setAttribute("aria-label", readable(NAMES[`${way.x},${way.y}`]));
    button.disabled = !offered(way);
    touch(button, `pad ${at}`, way, held);
    return button;
  }));
  fire.disabled = !offered(push(0, 0, true));
  touch(fire, "pad fire", push(0, 0, true), held);
}

function touch(button, what, pushed, held) {
  button.onpointerdown = (event) => {
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    held.down(what, pushed);
  };
  button.onpointerup = button.onpointercancel = button.onlostpointercapture = () => held.up(what);
  button.oncontextmenu = (event) => event.preventDefault(); // a long press is no wish for a menu
  button.onkeydown = (event) => { if ([" ", "Enter"].includes(event.key)) { event.preventDefault(); event.stopPropagation(); held.down(what, pushed); } };
  button.onkeyup = (event) => { if ([" ", "Enter"].includes(event.key)) { event.stopPropagation(); held.up(what); } };
  button.onblur = () => held.up(what);
}
