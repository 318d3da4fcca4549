// Loads a TypeScript module of the pages for node's test runner, by the bundler that builds them.
import { build } from "vite";

export async function load(entry) {
  const [{ output }] = [].concat(await build({
    configFile: false,
    logLevel: "error",
    build: { write: false, minify: false, target: "node20", lib: { entry: new URL(`../src/${entry}`, import.meta.url).pathname, formats: ["es"] } },
  }));
  return import(`data:text/javascript;base64,${Buffer.from(output[0].code).toString("base64")}`);
}
