// Runs programs in MicroPython with modules of npmobilenet/exercises in its file system:
//   node in_micropython.mjs MICROPYTHON.mjs FOLDER MODULE,MODULE... PROGRAM
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [micropython, folder, modules, program] = process.argv.slice(2);
const { loadMicroPython } = await import(pathToFileURL(path.resolve(micropython)));
const python = await loadMicroPython({
  heapsize: 8 * 1024 * 1024, stdout: (line) => console.log(line), linebuffer: true,
});
python.FS.mkdir("/npmobilenet");
python.FS.mkdir("/npmobilenet/exercises");
for (const name of modules.split(",")) {
  python.FS.writeFile(`/npmobilenet/exercises/${name}.py`, fs.readFileSync(path.join(folder, `${name}.py`)));
}
try {
  python.runPython("import sys\nsys.path.append('/')");
  python.runPython(fs.readFileSync(program, "utf8"));
} catch (error) {
  console.log(error.message);
  process.exit(1);
}
