/* A network from its file: the `.safetensors` that npmobilenet writes, read by a reader of our own. */

/** @typedef {{shape: number[], data: Float32Array}} Tensor row-major; a feature map is (H, W, C), one picture */
/** @typedef {{type: string, name: string, inputs: string[], [attribute: string]: any}} Layer */
/** @typedef {{graph: {name: string, layers: Layer[], outputs?: Record<string, string>}, params: Map<string, Record<string, Tensor>>, labels: string[][],
 *   scaling: {scale: number|number[], offset: number|number[]}, resize: string|null, sha256: string, checked: boolean}} Model */

const ARRAY_ORDER = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"]; // as the hash takes them

/** Read a file: 8 bytes with the length of a JSON header, the header, then the numbers of every tensor.
 * @param {ArrayBuffer} buffer @returns {Promise<Model>} */
async function readModel(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__: metadata = {}, ...tensors } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { npmobilenet: description, sha256 } = metadata;
  if (!description) throw new Error("expected a .safetensors file that npmobilenet convert has written");
  const { graph, labels, scaling, resize } = JSON.parse(description);
  const params = new Map();
  for (const [name, { shape, data_offsets: [start, end] }] of Object.entries(tensors)) {
    const slash = name.lastIndexOf("/");
    const [layer, array] = [name.slice(0, slash), name.slice(slash + 1)];
    if (!params.has(layer)) params.set(layer, {});
    params.get(layer)[array] = { shape, data: new Float32Array(buffer.slice(8 + length + start, 8 + length + end)) };
  }
  const model = { graph, params, labels, scaling, resize, sha256, checked: false };
  model.checked = await hashIsRight(model, description);
  return model;
}

/** Whether the file is what was written: SHA-256 of the description, then each tensor's name and numbers in the order of
 * the graph. False where the browser offers no SHA-256; an error where the hash is another.
 * @param {Model} model @param {string} description */
async function hashIsRight(model, description) {
  if (!globalThis.crypto || !crypto.subtle) return false;
  const parts = /** @type {BlobPart[]} */ ([new TextEncoder().encode(description)]);
  for (const { name } of model.graph.layers) {
    const arrays = model.params.get(name) || {};
    for (const array of Object.keys(arrays).sort((a, b) => ARRAY_ORDER.indexOf(a) - ARRAY_ORDER.indexOf(b))) {
      parts.push(new TextEncoder().encode(`${name}/${array}`), /** @type {Float32Array<ArrayBuffer>} */ (arrays[array].data));
    }
  }
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== model.sha256) throw new Error(`the file is damaged: its SHA-256 is ${hex}, expected ${model.sha256}`);
  return true;
}
