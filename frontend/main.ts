/*
 * What every page loads: styles, ages that stay right, and a loader that fetches the code of a custom element only
 * where a page has one. Everything works without this file; it makes pages livelier.
 */
import "./styles/main.css";
import { keepAgesRight } from "./ages";

const elements: Record<string, () => Promise<unknown>> = {
  "city-map": () => import("./elements/city-map"),
  "time-chart": () => import("./elements/time-chart"),
  "live-value": () => import("./elements/live-value"),
  "copy-text": () => import("./elements/copy-text"),
  "tab-set": () => import("./elements/tab-set"),
  "near-me": () => import("./elements/near-me"),
  "frame-log": () => import("./elements/frame-log"),
  "code-scanner": () => import("./elements/code-scanner"),
};

function load(root: ParentNode): void {
  for (const [name, fetchCode] of Object.entries(elements)) {
    if (root.querySelector(name)) {
      delete elements[name];
      fetchCode().catch((error: unknown) => console.warn(`${name} could not be loaded`, error));
    }
  }
}

async function startHtmx(): Promise<void> {
  if (!document.querySelector("[hx-get],[hx-post],[hx-boost],[data-hx-get],[data-hx-post]")) return;
  // htmx that arrives after DOMContentLoaded and before the page is complete waits for an event that has passed.
  if (document.readyState !== "complete") {
    await new Promise((resolve) => addEventListener("load", resolve, { once: true }));
  }
  // Its settings stand in a meta element of the page: it reads them before anybody could set them.
  await import("htmx.org");
  document.addEventListener("htmx:load", (event) => {
    if (event.target instanceof Element && event.target.parentElement) load(event.target.parentElement);
  });
}

document.documentElement.dataset["scripts"] = "";
load(document);
keepAgesRight();
void startHtmx();
