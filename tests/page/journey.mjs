// A lecture's way through the page in Firefox, with mouse, keys and files alone: node journey.mjs FIREFOX JSON
// JSON: {page, strokes, network, photo, program}. Prints what each stop showed as JSON.
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [executablePath, argument] = process.argv.slice(2);
const { page: path, strokes, network, photo, program } = JSON.parse(argument);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 720 });
  const [errors, requests] = [[], []];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) requests.push(request.url()); });
  const live = () => page.$eval(".view:not([hidden]) .live", (line) => line.textContent);
  const go = async (letter) => {
    await page.click(`#header nav li:nth-child(${"ABCDEFGHIJKLP".indexOf(letter) + 1}) a`);
    await page.waitForFunction(`page.state.view === "${letter}"`);
  };
  const give = async (selector, file) => {
    await page.evaluate("globalThis.before = page.values");
    await (await page.$(selector)).uploadFile(file);
    await page.waitForFunction("page.values !== globalThis.before");
  };

  await page.goto(pathToFileURL(path).href);
  await page.waitForFunction("document.documentElement.dataset.ready");

  const box = await (await page.$("#pad")).boundingBox();
  for (const stroke of strokes) {
    for (const [step, [x, y]] of stroke.entries()) {
      await page.mouse.move(box.x + x, box.y + y, { steps: 5 });
      if (step === 0) await page.mouse.down();
    }
    await page.mouse.up();
  }
  await page.waitForFunction(`pad.steps !== null && pad.strokes.length === ${strokes.length}`);
  const drawn = await live();

  await go("B");
  await page.focus("#main");
  const total = await page.evaluate("valueAt(currentPair()).totals.separable");
  for (let i = 0; i < total; i++) await page.keyboard.press(" ");
  const walked = await live();

  await go("L");
  await page.focus("#l-new");
  await page.keyboard.press("Enter");
  await page.waitForFunction("page.state.find");
  await page.keyboard.press("Tab");
  let verdict = "";
  for (let guess = 0; guess < 9 && !verdict.startsWith("Right:"); guess++) {
    await page.keyboard.press("ArrowDown");
    verdict = await page.$eval("#l-verdict", (line) => line.textContent);
  }

  await go("P");
  await page.waitForFunction("document.querySelector('#view-P .live').textContent.includes('ms')");
  await page.$eval("#p-text", (text, source) => { text.value = source; text.dispatchEvent(new Event("input")); }, program);
  await page.click("#p-run");
  await page.waitForFunction("!writing.busy");
  const judged = await page.$eval("#p-output", (output) => output.textContent);

  await go("A");
  await give("#weights-file", network);
  await give("#photo", photo);
  const answer = await page.evaluate("Array.from(page.values.get(page.model.graph.layers.at(-1).name).data)");
  console.log(JSON.stringify({ drawn, walked, total, verdict, judged, answer, errors, requests }));
} finally {
  await browser.close();
}
