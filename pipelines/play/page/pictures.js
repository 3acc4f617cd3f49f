// Pictures on canvases, every pixel as large as the others, and values as bars.

// Draw pictures side by side on `stage`; their pixels are in `bytes` from `at` on, grey or RGB.
export function show(stage, pictures, bytes, at) {
  const titles = pictures.map((each) => each.title).join("\n");
  if (stage.dataset.titles !== titles) frames(stage, pictures, titles);
  stage.querySelectorAll("canvas").forEach((canvas, number) => {
    const { height, width, channels } = pictures[number];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    paint(canvas, new Uint8Array(bytes, at, height * width * channels), channels);
    at += height * width * channels;
  });
  fit(stage);
}

function frames(stage, pictures, titles) {
  stage.dataset.titles = titles;
  stage.replaceChildren(...pictures.map(({ title }) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    caption.textContent = title;
    figure.append(canvas, caption);
    return figure;
  }));
}

function paint(canvas, pixels, channels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer); // little-endian, as all browsers' machines are: A B G R
  if (channels === 1) for (let i = 0; i < words.length; i++) words[i] = 0xff000000 | (pixels[i] * 0x010101);
  else for (let i = 0, j = 0; i < words.length; i++, j += 3)
    words[i] = 0xff000000 | (pixels[j + 2] << 16) | (pixels[j + 1] << 8) | pixels[j];
  context.putImageData(image, 0, 0);
}

// Every pixel becomes a whole number of pixels of the screen; all pictures about as high as there is room for.
export function fit(stage) {
  const canvases = [...stage.querySelectorAll("canvas")];
  const ratio = window.devicePixelRatio || 1;
  const wide = (stage.clientWidth - 16 * (canvases.length + 1)) * ratio;
  const high = Math.max(240, window.innerHeight * 0.62) * ratio;
  const asked = [wide, high, ...canvases.flatMap((each) => [each.width, each.height])].join();
  if (stage.dataset.fitted === asked || !canvases.length) return;
  stage.dataset.fitted = asked;
  const scaled = (limit) => canvases.map((each) => Math.floor(limit / each.height));
  const sum = (scales) => canvases.reduce((total, each, at) => total + each.width * scales[at], 0);
  let limit = Math.floor(high);
  while (limit > 0 && sum(scaled(limit)) > wide) limit -= 1;
  let scales = scaled(limit);
  if (scales.includes(0)) { // too little room for one pixel each: then smaller than they are
    const least = Math.min(wide / sum(canvases.map(() => 1)), high / Math.max(...canvases.map((each) => each.height)));
    scales = canvases.map(() => least);
  }
  canvases.forEach((canvas, at) => {
    canvas.style.width = `${(canvas.width * scales[at]) / ratio}px`;
    canvas.style.height = `${(canvas.height * scales[at]) / ratio}px`;
  });
}

// A row an action: its name, a bar, its value. `chosen` is the one that was played. Bars begin at zero, or where
// all are on one side of it, a little before the one that is nearest: differences are what one looks for.
export function bars(list, values, chosen, named) {
  while (list.childElementCount > values.length) list.lastChild.remove();
  while (list.childElementCount < values.length) {
    const row = document.createElement("li");
    row.append(...["name", "track", "value"].map((kind) => Object.assign(document.createElement("span"), { className: kind })));
    row.children[1].append(document.createElement("span"));
    list.append(row);
  }
  const known = values.filter((value) => value !== null);
  let [low, high] = [Math.min(...known), Math.max(...known)];
  const margin = 0.1 * (high - low) || 1;
  const zero = low > 0 ? low - margin : high < 0 ? high + margin : 0;
  [low, high] = [Math.min(low, zero), Math.max(high, zero)];
  const share = (value) => (100 * (value - low)) / (high - low || 1);
  values.forEach((value, at) => {
    const [name, track, figure] = list.children[at].children;
    name.textContent = named(at);
    figure.textContent = value === null ? "?" : value.toFixed(2);
    const ends = [share(zero), share(value ?? zero)].sort((a, b) => a - b);
    track.firstChild.style.left = `${ends[0]}%`;
    track.firstChild.style.width = `${ends[1] - ends[0]}%`;
    list.children[at].classList.toggle("best", value === Math.max(...known));
    list.children[at].classList.toggle("chosen", at === chosen);
  });
}
