// Builds the front end into the Python package. Map and chart code are chunks of their own, loaded only by pages that
// have a map or a chart. Nothing is inlined as data: a strict Content Security Policy serves everything from /static/.
import { defineConfig } from "vite";

export default defineConfig({
  root: "frontend",
  base: "/static/build/",
  publicDir: false,
  build: {
    outDir: "../src/quartier/portal/static/build",
    emptyOutDir: true,
    manifest: "manifest.json",
    assetsInlineLimit: 0,
    target: "es2022",
    chunkSizeWarningLimit: 1500,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { main: "frontend/main.ts" },
      // htmx holds an eval that main.ts switches off (allowEval) and the Content Security Policy forbids anyway.
      checks: { eval: false },
    },
  },
  worker: { format: "es" },
});
