// Opens a page in Firefox (WebDriver BiDi) and evaluates an expression in it: node firefox.mjs FIREFOX PAGE < EXPRESSION
// Prints {"result": ..., "errors": [...], "requests": [...], "milliseconds": ...} as JSON.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [executablePath, path] = process.argv.slice(2);
const expression = readFileSync(0, "utf-8");
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  const [errors, requests] = [[], []];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) requests.push(request.url()); });
  const started = performance.now();
  await page.goto(pathToFileURL(path).href);
  await page.waitForFunction("document.documentElement.dataset.ready", { timeout: 30_000 });
  const milliseconds = performance.now() - started;
  const result = await page.evaluate(`(async () => { ${expression} })()`);
  console.log(JSON.stringify({ result, errors, requests, milliseconds }));
} finally {
  await browser.close();
}
