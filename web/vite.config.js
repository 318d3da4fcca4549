import { defineConfig } from "vite";

// Three entries: the shop and the console are pages of their own; the waiting
// page is rendered by Go, which finds its script in the manifest.
export default defineConfig({
  build: {
    target: "es2022",
    manifest: "manifest.json",
    // Chunks are loaded by relative paths alone: the waiting page's stand under /rooms/_/.
    modulePreload: { polyfill: false, resolveDependencies: (_, chunks, { hostType }) => (hostType === "js" ? [] : chunks) },
    assetsInlineLimit: 0,
    rolldownOptions: {
      input: {
        shop: "index.html",
        console: "console.html",
        waiting: "src/waiting/main.ts",
      },
    },
  },
});
