/* What views draw with: elements, SVG, maps of pixels, bars, axes. No view draws in any other way. */

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: el("p", {class: "live"}, "text", child). Functions are listeners: {onclick: () => ...}.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] true sets an attribute without a value; false, null and undefined leave it out
 * @param {...(Node|string|number|null)} children
 * @returns {any} */
function el(tag, attributes = {}, ...children) {
  return furnished(document.createElement(tag), attributes, children);
}

/** An SVG element, as `el`.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node|string|number|null)} children
 * @returns {any} */
function svg(tag, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, tag), attributes, children);
}

/** @param {any} element @param {Record<string, any>} attributes @param {(Node|string|number|null)[]} children */
function furnished(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null).map((child) => (typeof child === "number" ? String(child) : child)));
  return element;
}

/** A drawing with a name for screen readers; its text twin stands beside it.
 * @param {number} width @param {number} height units of its own @param {string} name @param {...Node} children */
function drawing(width, height, name, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name }, ...children);
}

/** A drawing that grows with the text of the page, as far as its place allows.
 * @param {SVGSVGElement} drawn @param {number} [most] per cent of a wide window's width */
function growing(drawn, most = 100) {
  drawn.style.width = `min(${drawn.getAttribute("width")}px * var(--size), max(${most}vw, 336px))`;
  return drawn;
}

/** Oblique lines, so that a surface is known without its color. @param {string} id @param {string} stroke */
function hatch(id, stroke) {
  return svg("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 6, height: 6, fill: "var(--paper)" }), svg("path", { d: "M1.5 0V6", stroke, "stroke-width": 3 }));
}

/** A width that fits the window: drawings keep the size of their text, and become narrower. @param {number} wanted in px */
function fitting(wanted) {
  return Math.max(240, Math.min(wanted, window.innerWidth - 24));
}

/** A slider with its value: {label, min, max, step, value, show: number -> text, change: number -> void}.
 * @param {{label: string, min: number, max: number, step?: number, value: number, show?: (value: number) => string, change: (value: number) => void}} slider */
function slider({ label, min, max, step = 1, value, show = String, change }) {
  const output = el("output", { class: "number" }, show(value));
  const input = el("input", {
    type: "range", min, max, step, value, "aria-valuetext": show(value),
    oninput: () => {
      output.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", show(Number(input.value)));
      change(Number(input.value));
    },
  });
  return el("label", {}, label, input, output);
}

/** A choice of several: options are [value, text].
 * @param {string} label @param {[string, string][]} options @param {string} chosen @param {(value: string) => void} change */
function choice(label, options, chosen, change) {
  const select = el("select", { onchange: () => change(select.value) },
    ...options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  return el("label", {}, label, select);
}

/** A check box. @param {string} label @param {boolean} checked @param {(checked: boolean) => void} change */
function checkbox(label, checked, change) {
  const input = el("input", { type: "checkbox", checked, onchange: () => change(input.checked) });
  return el("label", {}, input, label);
}

/** A table: header cells, rows of cells; the first cell of a row is its header.
 * @param {string} caption @param {string[]} header @param {(string|number|Node)[][]} rows */
function table(caption, header, rows) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption),
      el("thead", {}, el("tr", {}, ...header.map((cell) => (cell ? el("th", { scope: "col" }, cell) : el("td"))))),
      el("tbody", {}, ...rows.map(([first, ...rest]) =>
        el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((cell) => el("td", {}, cell)))))));
}

/** A long table, of which a window is seen. @param {HTMLElement} long from `table` */
function tall(long) {
  long.classList.add("tall");
  return long;
}

/** A color of the page's scheme, for canvases: color("--blue"). @param {string} name */
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A feature map's channel as pixels: zero is gray, positive is light, negative dark; one range for all channels drawn.
 * @param {HTMLCanvasElement} canvas
 * @param {{shape: number[], data: ArrayLike<number>}} map (H, W, C)
 * @param {number} channel
 * @param {number} [limit] value that is drawn white; by default the largest magnitude of the channel */
function drawMap(canvas, map, channel, limit) {
  const [H, W, C] = map.shape;
  const largest = limit || largestMagnitude(map, channel) || 1;
  canvas.width = W;
  canvas.height = H;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(W, H);
  for (let i = 0; i < H * W; i++) {
    pixels.data.fill(128 + 127 * Math.max(-1, Math.min(1, map.data[i * C + channel] / largest)), 4 * i, 4 * i + 3);
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** @param {{shape: number[], data: ArrayLike<number>}} map @param {number} channel */
function largestMagnitude(map, channel) {
  let largest = 0;
  for (let i = channel; i < map.data.length; i += map.shape[2]) largest = Math.max(largest, Math.abs(map.data[i]));
  return largest;
}

/** An RGB picture on a canvas. @param {HTMLCanvasElement} canvas @param {{width: number, height: number, data: ArrayLike<number>}} picture */
function drawPicture(canvas, picture) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(picture.width, picture.height);
  for (let i = 0; i < picture.width * picture.height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = picture.data[3 * i + c];
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** About the width of a text in a drawing; Chinese characters are square. @param {string} text */
function textWidth(text) {
  return Array.from(text).reduce((sum, character) => sum + (character > "\u2e80" ? 14 : 8), 0);
}

/** Horizontal bars with their numbers written beside them: rows are {label, value, text, color?}.
 * @param {string} name @param {{label: string, value: number, text: string, color?: string}[]} rows @param {number} [full] value of a full bar */
function bars(name, rows, full = Math.max(...rows.map((row) => row.value), 0)) {
  const [left, right, height] = [Math.min(160, 12 + Math.max(...rows.map((row) => textWidth(row.label)))), 110, 26];
  const width = fitting(640);
  return drawing(width, rows.length * height + 4, name, ...rows.flatMap((row, i) => [
    svg("text", { x: left - 8, y: i * height + 18, "text-anchor": "end" }, row.label),
    svg("rect", {
      x: left, y: i * height + 4, height: height - 8, fill: row.color || "var(--blue)",
      width: full > 0 ? Math.max(0, (width - left - right) * Math.min(1, row.value / full)) : 0,
    }),
    svg("text", { x: left + (full > 0 ? (width - left - right) * Math.min(1, row.value / full) : 0) + 6, y: i * height + 18 }, row.text),
  ]));
}

/** Axes of a chart: its frame, its ticks with their texts, and the two scales from values to units of the drawing.
 * @param {{width: number, height: number, x: Axis, y: Axis}} chart
 * @typedef {{from: number, to: number, ticks: number[], label: string, log?: boolean, show?: (value: number) => string}} Axis */
function axes({ width, height, x, y }) {
  const [left, right, top, bottom] = [64, 16, 12, 46];
  const along = (/** @type {Axis} */ axis, /** @type {number} */ value) => axis.log
    ? Math.log(value / axis.from) / Math.log(axis.to / axis.from)
    : (value - axis.from) / (axis.to - axis.from);
  const px = (/** @type {number} */ value) => left + along(x, value) * (width - left - right);
  const py = (/** @type {number} */ value) => height - bottom - along(y, value) * (height - top - bottom);
  const frame = svg("g", {},
    svg("path", { d: `M${left} ${top}V${height - bottom}H${width - right}`, fill: "none", stroke: "var(--quiet)" }),
    ...x.ticks.flatMap((tick) => [
      svg("path", { d: `M${px(tick)} ${height - bottom}v5`, stroke: "var(--quiet)" }),
      svg("text", { x: px(tick), y: height - bottom + 19, "text-anchor": "middle" }, (x.show || String)(tick))]),
    ...y.ticks.flatMap((tick) => [
      svg("path", { d: `M${left} ${py(tick)}h${width - left - right}`, stroke: "var(--line)" }),
      svg("text", { x: left - 6, y: py(tick) + 4, "text-anchor": "end" }, (y.show || String)(tick))]),
    svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, x.label),
    svg("text", { x: -(top + height - bottom) / 2, y: 14, transform: "rotate(-90)", "text-anchor": "middle" }, y.label));
  return { frame, px, py };
}
