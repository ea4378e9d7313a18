/* One network and one picture at a time: what all views look at. */

const LONG_NETWORK = 100e6; // multiply-adds; beyond, the page says how long it will take and computes in slices

/** Use the network of a file and run it on the current picture. @param {ArrayBuffer} buffer a `.safetensors` of npmobilenet */
async function useModel(buffer) {
  page.model = await readModel(buffer);
  if (!page.picture) page.picture = exampleDigit(Number(page.state.example || 4));
  await usePicture(page.picture);
}

/** Run the network on a picture. @param {{width: number, height: number, data: Uint8Array}} picture RGB */
async function usePicture(picture) {
  const started = performance.now();
  const values = await traceInSlices(page.model, networkInput(picture, page.model));
  page.picture = picture;
  page.input = values.get(page.model.graph.layers[0].name);
  page.values = values;
  page.passTime = performance.now() - started;
  if (document.documentElement.dataset.ready) page.refresh();
}

/** One of the ten digits that the page carries, as a picture. @param {number} digit */
function exampleDigit(digit) {
  return pictureOfInk(page.facts.digits[digit]);
}

/** Probabilities, the likeliest first. @returns {{index: number, label: string, probability: number}[]} */
function answers() {
  const { data } = page.values.get(page.model.graph.layers.at(-1).name);
  return Array.from(data, (probability, index) => ({ index, label: page.model.labels[index] || String(index), probability }))
    .sort((a, b) => b.probability - a.probability);
}
