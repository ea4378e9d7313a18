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
  page.model = await readModel(buffer);
  await usePicture(page.picture || exampleDigit(Number(page.state.example || 4)));
}

/** Run the network on a picture. @param {{width: number, height: number, data: Uint8Array}} picture RGB */
async function usePicture(picture) {
  page.input = networkInput(picture, page.model);
  page.picture = picture;
  const values = new Map();
  const layers = page.model.graph.layers;
  const long = multiplyAdds(page.model) > LONG_NETWORK;
  const started = performance.now();
  let shown = started;
  for (const [name, value] of traceSteps(page.model, page.input)) {
    values.set(name, value);
    if (long && performance.now() - shown > SLICE) {
      say(page.text("page.working", { done: values.size, layers: layers.length }));
      await new Promise((resolve) => setTimeout(resolve));
      shown = performance.now();
    }
  }
  page.passTime = performance.now() - started;
  page.values = values;
  if (document.documentElement.dataset.ready) page.refresh();
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
