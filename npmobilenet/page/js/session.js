/* One network and one picture at a time: what all views look at. */

const LONG_NETWORK = 20e6; // multiply-adds; beyond, the page says how far it is
const SLICE = 50; // ms of computing between two answers to the reader

/** Use a network that the page carries. @param {string} name */
async function useNetwork(name) {
  page.networkName = name;
  await useModel(bytesOf(page.networks[name]));
}

/** Use the network of a file and run it on the current picture. @param {ArrayBuffer} buffer a `.safetensors` of npmobilenet */
async function useModel(buffer) {
  const model = await readModel(buffer);
  checkClassifier(model);
  await usePicture(page.picture || exampleDigit(Number(page.state.example || 4)), model);
}

/** Run a network on a picture; both are the page's from then on. @param {Picture} picture @param {Model} model */
async function usePicture(picture, model = page.model) {
  const input = networkInput(picture, model);
  const values = new Map();
  const long = multiplyAdds(model) > LONG_NETWORK;
  const started = performance.now();
  let shown = started;
  for (const [name, value] of traceSteps(model, input)) {
    values.set(name, value);
    if (long && performance.now() - shown > SLICE) {
      say(page.text("page.working", { done: values.size, layers: model.graph.layers.length }));
      await new Promise((resolve) => setTimeout(resolve));
      shown = performance.now();
    }
  }
  const another = model !== page.model;
  Object.assign(page, { model, picture, input, values, passTime: performance.now() - started });
  if (!document.documentElement.dataset.ready) return;
  replaceContent("errors");
  if (another) forgetOtherViews();
  page.refresh();
}

/** Views that are not shown are built anew for another network. */
function forgetOtherViews() {
  for (const section of document.querySelectorAll(`.view:not(#view-${page.state.view})`)) section.remove();
  page.kept.clear();
  showFooter();
}

/** One of the ten digits that the page carries, as a picture. @param {number} digit */
function exampleDigit(digit) {
  return pictureOfInk(page.facts.digits[digit]);
}

/** Probabilities, the likeliest first. @returns {{index: number, label: string, probability: number}[]} */
function answers() {
  const { data } = page.values.get(page.model.graph.layers.at(-1).name);
  return Array.from(data, (probability, index) => ({ index, label: labelOf(index), probability: Number(probability) }))
    .sort((a, b) => b.probability - a.probability);
}

/** @param {number} index */
function labelOf(index) {
  return page.model.labels.length ? page.model.labels[index][1] : String(index);
}
