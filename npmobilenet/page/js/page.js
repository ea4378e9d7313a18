/* The page itself: state in the URL's hash, one view at a time, languages, keys, lecture mode, handout. */

/**
 * @typedef {{letter: string, build: (stage: HTMLElement, page: any) => void, update: (page: any) => string,
 *   describe?: (page: any) => string, code?: {numpy?: string[], javascript?: Function[], python?: string[]},
 *   keys?: (event: KeyboardEvent, page: any) => boolean}} View
 *   build     draws the view once into its stage (again when the language changes)
 *   update    redraws what depends on page.state, page.model or page.values; returns the line of live numbers
 *   describe  the sentence that a screen reader hears instead of that line
 *   code      what "in NumPy", "in JavaScript" and "in Python loops" show
 *   keys      answers a key that the page itself does not know; true if it did
 */

/** @type {Map<string, View>} */
const VIEWS = new Map();
const SHARED_STATE = ["lang", "lecture", "example"]; // stays when the view changes; everything else is a view's own
const LANGUAGES = /** @type {const} */ (["en", "zh"]);
const LANGUAGE_NAMES = { en: "English", zh: "中文" };
const READER_PAUSE = 500; // ms between two sentences for a screen reader

/** What gives a view's numbers in a terminal. */
const COMMANDS = /** @type {Record<string, string>} */ ({
  A: "npmobilenet trace picture.png -m digits -o pack", B: "npmobilenet trace picture.png -m digits -o pack",
  C: "npmobilenet cost mobilenet_v1 --per-layer", D: "npmobilenet figures separability", E: "npmobilenet figures padding",
  F: "npmobilenet figures batch-norm relu6 float16", G: "npmobilenet figures spirals", H: "npmobilenet memory mobilenet_v2",
  I: "npmobilenet cost mobilenet_v1 --kinds", J: "npmobilenet models", K: "npmobilenet ladder",
  L: "npmobilenet compare pack dump.npz", P: "npmobilenet check exercises.py",
});

/** @param {View} view */
function registerView(view) {
  VIEWS.set(view.letter, view);
}

/** State from a hash: "#B?layer=1&pixel=3,4" is {view: "B", layer: "1", pixel: "3,4"}.
 * @param {string} hash @returns {Record<string, string>} */
function parseHash(hash) {
  const [letter, query = ""] = hash.replace(/^#/, "").split("?");
  return { ...Object.fromEntries(new URLSearchParams(query)), view: VIEWS.has(letter) ? letter : "A" };
}

/** Hash of a state, the other way round. @param {Record<string, string>} state */
function hashOf({ view, ...rest }) {
  const query = new URLSearchParams(rest).toString().replaceAll("%2C", ",");
  return `#${view}${query ? "?" + query : ""}`;
}

const page = {
  /** @type {Record<string, string>} */ state: { view: "A" },
  /** @type {any} what npmobilenet counted when it wrote this page */ facts: null,
  /** @type {any} network that the views look into: {graph, params, ...} of readModel */ model: null,
  /** @type {Record<string, string>} files of the networks that the page carries, in base64 */ networks: {},
  /** @type {string} which of them is in use; "" for the reader's file */ networkName: "digits",
  /** @type {any} RGB picture {width, height, data} that it looks at */ picture: null,
  /** @type {any} what the network is given, (H, W, C) */ input: null,
  /** @type {Map<string, any>} output of each layer for the picture */ values: new Map(),
  /** @type {number} time of the last pass, in ms */ passTime: 0,
  /** @type {Record<string, Record<string, string>>} */ texts: {},
  /** @type {Map<string, Record<string, string>>} state of the views that are not shown */ kept: new Map(),

  get language() {
    return this.state.lang === "zh" ? "zh" : "en";
  },

  /** Text of the current language, with its {placeholders} filled.
   * @param {string} key @param {Record<string, string|number>} [values] */
  text(key, values = {}) {
    const text = this.texts[this.language][key];
    if (text === undefined) throw new Error(`no text "${key}" in ${this.language}.json`);
    return text.replace(/\{(\w+)\}/g, (_, name) => {
      if (!(name in values)) throw new Error(`text "${key}" needs {${name}}`);
      return typeof values[name] === "number" ? this.number(values[name]) : String(values[name]);
    });
  },

  /** A number as the current language writes it. Without options: four significant digits unless it is whole, 1.2e-7 where it is tiny.
   * @param {number} value @param {Intl.NumberFormatOptions} [options] */
  number(value, options) {
    if (!options && value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(1);
    return new Intl.NumberFormat(this.language, options || (Number.isInteger(value) ? {} : { maximumSignificantDigits: 4 })).format(value);
  },

  /** Change the state; null takes an entry away. Only another view makes an entry in the browser's history.
   * @param {Record<string, string|number|null>} changes */
  set(changes) {
    const next = { ...this.state };
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) delete next[key];
      else next[key] = String(value);
    }
    history.replaceState(null, "", hashOf(next));
    showState(next);
  },

  /** Show another view, with the state that it was left with. @param {string} letter */
  open(letter) {
    this.kept.set(this.state.view, this.state);
    const shared = Object.fromEntries(SHARED_STATE.filter((key) => key in this.state).map((key) => [key, this.state[key]]));
    location.hash = hashOf({ ...this.kept.get(letter), ...shared, view: letter });
  },

  /** Redraw the view that is shown: its live line, and what a screen reader says. */
  refresh() {
    guarded(() => {
      const view = /** @type {View} */ (VIEWS.get(this.state.view));
      const line = view.update(this);
      /** @type {HTMLElement} */ (document.querySelector(`#view-${view.letter} .live`)).textContent = line;
      say(view.describe ? view.describe(this) : line);
    });
  },
};

/** @type {{sentence: string, timer: number}} */
const reader = { sentence: "", timer: 0 };

/** Let a screen reader say a sentence, the last one of each half second. @param {string} sentence */
function say(sentence) {
  reader.sentence = sentence;
  if (reader.timer) return;
  reader.timer = window.setTimeout(() => {
    reader.timer = 0;
    /** @type {HTMLElement} */ (document.getElementById("status")).textContent = reader.sentence;
  }, READER_PAUSE);
}

/** Run something; an error is shown in the page with the view's name, never swallowed. @param {() => any} work */
function guarded(work) {
  try {
    return work();
  } catch (error) {
    showError(error);
    throw error;
  }
}

/** @param {any} error */
function showError(error) {
  const box = /** @type {HTMLElement} */ (document.getElementById("errors"));
  box.textContent = `${page.state.view}: ${error && error.message ? error.message : error}`;
}

/** Show a state: build its view if it is new, hide the others. @param {Record<string, string>} state */
function showState(state) {
  const language = page.language;
  const before = page.state.view;
  page.state = state;
  document.documentElement.classList.toggle("lecture", "lecture" in state);
  if (page.language !== language) translatePage();
  const view = /** @type {View} */ (VIEWS.get(state.view));
  const section = viewSection(view);
  for (const other of document.querySelectorAll(".view")) /** @type {HTMLElement} */ (other).hidden = other !== section;
  for (const link of document.querySelectorAll("#header nav a")) {
    if (link.textContent === view.letter) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.letter}. ${page.text(view.letter.toLowerCase() + ".title")}`;
  if (before !== state.view) window.scrollTo(0, 0);
  page.refresh();
}

/** The section of a view, built when it is first asked for. @param {View} view @returns {HTMLElement} */
function viewSection(view) {
  const found = document.getElementById(`view-${view.letter}`);
  if (found) return found;
  const key = view.letter.toLowerCase();
  const stage = el("div", { class: "stage" });
  const section = el("section", { class: "view", id: `view-${view.letter}`, "aria-labelledby": `title-${view.letter}` },
    el("h1", { id: `title-${view.letter}` }, `${view.letter}. ${page.text(key + ".title")}`),
    el("p", { class: "lead" }, page.text(key + ".lead")), stage, el("p", { class: "live" }),
    ...codePanels(view), commandLine(view.letter),
    el("details", { class: "notice", open: true }, el("summary", {}, page.text("page.notice")), el("p", {}, page.text(key + ".notice"))));
  /** @type {HTMLElement} */ (document.getElementById("main")).append(section);
  guarded(() => view.build(stage, page));
  return section;
}

/** The code that runs, as it stands: cut out of the package, or printed by the function itself. @param {View} view */
function codePanels({ code = {} }) {
  const panels = {
    numpy: (code.numpy || []).map((name) => page.facts.sources.numpy[name]),
    javascript: (code.javascript || []).map((running) => running.toString()),
    python: (code.python || []).map((name) => page.facts.sources.python[name]),
  };
  return Object.entries(panels).filter(([, texts]) => texts.length).map(([language, texts]) =>
    el("details", { class: `code code-${language}` }, el("summary", {}, page.text(`page.in-${language}`)),
      ...texts.map((text) => el("pre", { tabindex: 0, "aria-label": page.text(`page.in-${language}`) }, text))));
}

/** The command of a view, to copy; where the browser does not allow that, it is selected. @param {string} letter */
function commandLine(letter) {
  const code = el("code", {}, COMMANDS[letter]);
  const copy = () => {
    /** @type {Selection} */ (getSelection()).selectAllChildren(code);
    if (navigator.clipboard) navigator.clipboard.writeText(COMMANDS[letter]).catch(() => {});
  };
  return el("p", { class: "code" }, page.text("page.in-terminal") + " ", code, " ", el("button", { onclick: copy }, page.text("page.copy")));
}

/** Mark the line that contains a text in one of the functions that a view shows. @param {string} letter @param {string} language
 * @param {number} which of its functions; -1 marks none @param {string} part */
function markLine(letter, language, which, part) {
  document.querySelectorAll(`#view-${letter} .code-${language} pre`).forEach((pre, index) => {
    const lines = (pre.textContent || "").split(/(?<=\n)/);
    pre.replaceChildren(...lines.map((line) => (index === which && line.includes(part) ? el("mark", {}, line) : line)));
  });
}

/** Header and footer in the current language; views are built anew when they are next shown. */
function translatePage() {
  document.documentElement.lang = page.language;
  for (const section of document.querySelectorAll(".view")) section.remove();
  const tools = [
    choice("", LANGUAGES.map((name) => [name, LANGUAGE_NAMES[name]]), page.language, (lang) => page.set({ lang })),
    el("button", { onclick: toggleLecture }, page.text("page.lecture")),
    el("button", { onclick: () => window.print() }, page.text("page.handout")),
    el("button", { onclick: showKeys }, page.text("page.keys")),
  ];
  tools[0].firstElementChild.setAttribute("aria-label", page.text("page.language"));
  replaceContent("header", el("nav", { "aria-label": page.text("page.views") }, el("ul", {},
    ...[...VIEWS.keys()].map((letter) => el("li", {}, el("a", {
      href: `#${letter}`, "aria-label": `${letter}. ${page.text(letter.toLowerCase() + ".title")}`,
      onclick: (/** @type {Event} */ event) => { event.preventDefault(); page.open(letter); },
    }, letter))))), el("div", { class: "tools" }, ...tools));
  replaceContent("skip", page.text("page.skip"));
  showFooter();
}

/** What the page is, and which network it runs. */
function showFooter() {
  replaceContent("footer", page.text("page.footer", { version: page.facts.version, network: page.model.graph.name, sha256: page.model.sha256 }));
}

/** @param {string} id @param {...(Node|string)} children */
function replaceContent(id, ...children) {
  /** @type {HTMLElement} */ (document.getElementById(id)).replaceChildren(...children);
}

function toggleLecture() {
  page.set({ lecture: "lecture" in page.state ? null : "" });
}

/** The list of keys. */
function showKeys() {
  const dialog = el("dialog", { "aria-label": page.text("page.keys"), onclose: () => dialog.remove() },
    el("h2", {}, page.text("page.keys")),
    table(page.text("page.keys"), [page.text("page.key"), page.text("page.does")],
      page.text("page.key-list").split("\n").map((line) => line.split(" | "))),
    el("form", { method: "dialog" }, el("button", {}, page.text("page.close"))));
  document.body.append(dialog);
  dialog.showModal();
}

/** The first page of the handout: what to show, to say and to do in 45 minutes. */
function runSheet() {
  const rows = page.text("sheet.rows").split("\n").map((line) => line.split(" | "));
  return el("section", { class: "sheet" }, el("h1", {}, page.text("sheet.title")),
    table(page.text("sheet.caption"), page.text("sheet.header").split(" | "), rows));
}

/** Paper gets all views, after the run sheet. */
function buildHandout() {
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  for (const sheet of main.querySelectorAll(".sheet")) sheet.remove();
  const shown = page.state;
  for (const view of VIEWS.values()) {
    const section = viewSection(view);
    page.state = view.letter === shown.view ? shown : { ...(page.kept.get(view.letter) || {}), lang: page.language, view: view.letter };
    page.refresh();
    section.hidden = view.letter !== shown.view;
  }
  page.state = shown;
  main.append(...[...VIEWS.keys()].map((letter) => /** @type {Node} */ (document.getElementById(`view-${letter}`))));
  main.prepend(runSheet());
}

/** Keys of the page, where no control wants them. @param {KeyboardEvent} event */
function answerKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (target.closest("input, select, textarea")) return;
  const letters = [...VIEWS.keys()];
  const at = letters.indexOf(page.state.view);
  const view = /** @type {View} */ (VIEWS.get(page.state.view));
  const onPage = !target.closest("button, a, [tabindex='0'], summary");
  if (view.keys && view.keys(event, page)) event.preventDefault();
  else if (event.key === "ArrowRight" && onPage && at + 1 < letters.length) page.open(letters[at + 1]);
  else if (event.key === "ArrowLeft" && onPage && at > 0) page.open(letters[at - 1]);
  else if (event.key === "?") showKeys();
  else if (event.key === "+" || event.key === "-") resizeText(event.key === "+" ? 1.1 : 1 / 1.1);
  else if (event.key === ".") document.documentElement.classList.toggle("blank");
  else if (event.key === "l") toggleLecture();
}

/** @param {number} factor */
function resizeText(factor) {
  const size = Number(getComputedStyle(document.documentElement).getPropertyValue("--size"));
  document.documentElement.style.setProperty("--size", String(size * factor));
}

/** Text of one of the page's data elements. @param {string} id */
function embedded(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id)).textContent || "";
}

/** Bytes of base64. @param {string} text @returns {ArrayBuffer} */
function bytesOf(text) {
  return Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0)).buffer;
}

/** Read what the page carries, run the network on the first picture, show the view that the URL names. */
async function openPage() {
  window.addEventListener("error", (event) => showError(event.error || event.message));
  window.addEventListener("unhandledrejection", (event) => showError(event.reason));
  page.facts = JSON.parse(embedded("facts"));
  page.texts = JSON.parse(embedded("text"));
  page.state = parseHash(location.hash);
  if (!page.state.lang) page.state.lang = page.facts.language;
  page.networks = JSON.parse(embedded("weights"));
  await useNetwork("digits");
  translatePage();
  window.addEventListener("hashchange", () => showState({ lang: page.language, ...parseHash(location.hash) }));
  window.addEventListener("resize", () => page.refresh());
  window.addEventListener("keydown", answerKey);
  window.addEventListener("beforeprint", buildHandout);
  showState(page.state);
  document.documentElement.dataset.ready = "true";
}
