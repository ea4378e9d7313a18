/* A. What does the network see? Picture in, answer out; all other views look at the same picture. */

const PAD_SIDE = 280; // pixels of the drawing pad
const UNSURE = 0.6; // an answer below is "not sure"
const ANSWERS_SHOWN = 5; // of a network with many classes

/** @type {{strokes: number[][][], steps: any}} strokes: points [x, y] in pixels of the pad */
const pad = { strokes: [], steps: null };

registerView({
  letter: "A",

  build(stage) {
    const canvas = el("canvas", { id: "pad", width: PAD_SIDE, height: PAD_SIDE, role: "img", "aria-label": page.text("a.pad"), style: "touch-action: none; width: 280px; max-width: 100%; cursor: crosshair" });
    drawOn(canvas);
    stage.append(
      el("div", { class: "columns" },
        el("div", {}, canvas, el("div", { class: "controls" },
          el("button", { onclick: () => clearPad(canvas) }, page.text("a.clear")))),
        el("div", { id: "a-steps", class: "columns" }),
        el("div", { id: "a-answers", style: "flex: 1 1 20rem" })),
      exampleButtons(canvas),
      el("div", { class: "controls" },
        el("label", {}, page.text("a.photo"), el("input", { type: "file", id: "photo", accept: "image/*", onchange: takePhoto })),
        el("label", {}, page.text("a.weights"), el("input", { type: "file", id: "weights-file", accept: ".safetensors", onchange: takeWeights })),
        networkChoice()),
      el("p", { id: "a-long", class: "quiet" }),
      el("p", { class: "quiet" }, page.text("a.trained") + " " + page.text("a.decoder")),
      el("p", {}, page.text("a.command") + " ",
        el("button", { onclick: savePicture }, page.text("a.save"))));
  },

  update() {
    replaceContent("a-steps", ...preprocessingSteps());
    replaceContent("a-answers", answerBars(), answerTable());
    const macs = multiplyAdds(page.model);
    replaceContent("a-long", macs > LONG_NETWORK ? page.text("a.long", { macs, seconds: page.passTime / 1000 }) : "");
    const [first] = answers();
    const line = { macs, time: page.passTime, label: first.label, percent: percent(first.probability) };
    return page.text(first.probability < UNSURE ? "a.unsure" : "a.live", line);
  },

  describe() {
    const [first, second] = answers();
    return page.text("a.says", {
      label: first.label, percent: percent(first.probability), second: second.label, secondPercent: percent(second.probability),
    });
  },

  code: { numpy: ["softmax"], javascript: [strokesToInk, softmax] },
});

/** A probability in per cent, with two decimals. @param {number} probability */
function percent(probability) {
  return page.number(100 * probability, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

/** Strokes are kept as vectors: what is drawn with them is decided later. @param {HTMLCanvasElement} canvas */
function drawOn(canvas) {
  let drawing = false;
  const point = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * PAD_SIDE / box.width, (event.clientY - box.top) * PAD_SIDE / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    pad.strokes.push([point(event)]);
    showStrokes(canvas);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    /** @type {number[][]} */ (pad.strokes.at(-1)).push(point(event));
    showStrokes(canvas);
  });
  canvas.addEventListener("pointerup", () => {
    drawing = false;
    pad.steps = strokesToInk(pad.strokes);
    usePicture(pad.steps.picture);
  });
  showStrokes(canvas);
}

/** @param {HTMLCanvasElement} canvas */
function showStrokes(canvas) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  Object.assign(context, { fillStyle: "#000", strokeStyle: "#fff", lineWidth: 22, lineCap: "round", lineJoin: "round" });
  context.fillRect(0, 0, PAD_SIDE, PAD_SIDE);
  for (const stroke of pad.strokes) {
    context.beginPath();
    for (const [x, y] of [...stroke, stroke[0]].slice(0, stroke.length + (stroke.length === 1 ? 1 : 0))) context.lineTo(x, y);
    context.stroke();
  }
}

/** @param {HTMLCanvasElement} canvas */
function clearPad(canvas) {
  Object.assign(pad, { strokes: [], steps: null });
  showStrokes(canvas);
}

/** Ten digits that the network has never seen in training: the drawing pad's twin for the keyboard. @param {HTMLCanvasElement} canvas */
function exampleButtons(canvas) {
  const chosen = page.state.example || "4";
  return el("fieldset", {}, el("legend", {}, page.text("a.examples")), el("div", { class: "row" },
    ...page.facts.digits.map((/** @type {number[]} */ _, /** @type {number} */ digit) => el("label", {},
      el("input", {
        type: "radio", name: "example", value: digit, checked: String(digit) === chosen,
        "aria-label": page.text("a.example", { digit }),
        onchange: () => {
          clearPad(canvas);
          page.set({ example: digit });
          usePicture(exampleDigit(digit));
        },
      }), String(digit)))));
}

/** Which network answers: those that the page carries, or the reader's file. */
function networkChoice() {
  const carried = Object.keys(page.networks);
  if (carried.length < 2) return "";
  return choice(page.text("a.network"), carried.map((name) => [name, name]), page.networkName, (name) => useNetwork(name));
}

/** The pictures between the reader's hand and the network. */
function preprocessingSteps() {
  const canvases = /** @type {[Picture, string][]} */ ([]);
  if (pad.steps) {
    canvases.push([bitmapPicture(pad.steps.bitmap), page.text("a.strokes")], [inkPicture(pad.steps.ink), page.text("a.ink")]);
  }
  const [H, W] = page.input.shape;
  canvases.push([networkPicture(), page.text("a.input", { W, H })]);
  return canvases.map(([picture, caption]) => {
    const canvas = el("canvas", { style: "width: 160px", role: "img", "aria-label": caption });
    drawPicture(canvas, picture);
    return el("figure", { style: "margin: 0" }, canvas, el("figcaption", { class: "quiet", style: "max-width: 160px" }, caption));
  });
}

/** What is drawn of the network's input: its values taken back to 0..255. */
function networkPicture() {
  const [height, width, C] = page.input.shape;
  const { scale, offset } = page.model.scaling;
  const at = (/** @type {any} */ value, /** @type {number} */ c) => (typeof value === "number" ? value : value[c]);
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => {
    const c = Math.min(i % 3, C - 1);
    return Math.round((page.input.data[Math.floor(i / 3) * C + c] - at(offset, c)) / at(scale, c));
  });
  return { width, height, data };
}

/** @returns {{label: string, probability: number}[]} all classes in order where they are ten, else the likeliest */
function shownAnswers() {
  const sorted = answers();
  return sorted.length <= 10 ? sorted.sort((a, b) => a.index - b.index) : sorted.slice(0, ANSWERS_SHOWN);
}

function answerBars() {
  return bars(page.text("a.answers"), shownAnswers().map(({ label, probability }) =>
    ({ label, value: probability, text: `${percent(probability)} %` })), 1);
}

function answerTable() {
  return el("details", {}, el("summary", {}, page.text("a.answers")),
    table(page.text("a.answers"), [page.text("a.class"), page.text("a.probability")],
      shownAnswers().map(({ label, probability }) => [label, page.number(probability)])));
}

/** A photo, decoded by the browser and upright by its EXIF. @param {Event} event */
async function takePhoto(event) {
  const [file] = /** @type {HTMLInputElement} */ (event.target).files || [];
  if (!file) return;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const canvas = el("canvas", { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what is transparent is white
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const picture = { width: bitmap.width, height: bitmap.height, data: Uint8Array.from({ length: data.length / 4 * 3 }, (_, i) => data[Math.floor(i / 3) * 4 + i % 3]) };
  pad.steps = null;
  await usePicture(picture);
}

/** @param {Event} event */
async function takeWeights(event) {
  const [file] = /** @type {HTMLInputElement} */ (event.target).files || [];
  if (file) await useModel(await file.arrayBuffer());
}

/** The picture that the network is given, for `npmobilenet trace`. */
function savePicture() {
  const canvas = el("canvas");
  drawPicture(canvas, networkPicture());
  el("a", { href: canvas.toDataURL("image/png"), download: "picture.png" }).click();
}
