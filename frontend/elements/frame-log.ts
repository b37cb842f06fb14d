/*
 * <frame-log src="/live/frames?…"><ul class="desk-frames">…</ul></frame-log>: new lines of the frame log appear at the top.
 *
 * The server sends finished list items in the page's language. Whoever wants to read stops the log. The connection is
 * closed while nobody looks at the page.
 */
import { say } from "../language";

const MAXIMUM_LINES = 200;

interface Frames {
  rows: string;
  left_out: number;
}

class FrameLog extends HTMLElement {
  #source: EventSource | undefined;
  #stopped = false;
  #status = document.createElement("span");
  #button = document.createElement("button");
  #label = document.createElement("span");
  #stops: AbortController | undefined;
  #missed = 0;

  connectedCallback(): void {
    this.#stops = new AbortController();
    const bar = document.createElement("p");
    bar.className = "desk-frames__bar";
    this.#button.type = "button";
    this.#button.className = "kern-btn kern-btn--tertiary";
    this.#button.addEventListener("click", () => this.#toggle());
    this.#label.className = "kern-label";
    this.#button.append(this.#label);
    this.#status.setAttribute("role", "status");
    bar.append(this.#status, this.#button);
    this.prepend(bar);
    document.addEventListener("visibilitychange", () => this.#open(), { signal: this.#stops.signal });
    window.addEventListener("pagehide", () => this.#close(), { signal: this.#stops.signal });
    this.#open();
  }

  disconnectedCallback(): void {
    this.#stops?.abort();
    this.#close();
  }

  #toggle(): void {
    this.#stopped = !this.#stopped;
    if (!this.#stopped) this.#missed = 0;
    this.#open();
  }

  #close(): void {
    this.#source?.close();
    this.#source = undefined;
  }

  #open(): void {
    const wanted = !this.#stopped && document.visibilityState === "visible";
    if (!wanted) this.#close();
    else if (!this.#source || this.#source.readyState === EventSource.CLOSED) {
      this.#source = new EventSource(this.getAttribute("src") ?? "");
      this.#source.addEventListener("open", () => this.#tell());
      this.#source.addEventListener("frames", (event: MessageEvent<string>) => this.#show(JSON.parse(event.data) as Frames));
      this.#source.addEventListener("error", () => this.#tell());
    }
    this.#tell();
  }

  #tell(): void {
    const live = this.#source?.readyState === EventSource.OPEN;
    this.dataset["live"] = String(live);
    const left = this.#missed ? say(` ${this.#missed} Pakete in der Fülle ausgelassen.`, ` ${this.#missed} frames left out in the rush.`) : "";
    const text = this.#stopped ? say("Angehalten.", "Stopped.") : live ? say("Live: Neue Pakete erscheinen oben.", "Live: new frames appear at the top.") + left : say("Nicht verbunden; es wird wieder versucht.", "Not connected; trying again.");
    // The same words again would be read out again.
    if (this.#status.textContent !== text) this.#status.textContent = text;
    this.#label.textContent = this.#stopped ? say("Weiter", "Go on") : say("Anhalten", "Stop");
  }

  #show({ rows, left_out }: Frames): void {
    const list = this.querySelector(".desk-frames");
    if (!list) return;
    this.#missed += left_out;
    const made = document.createElement("template");
    made.innerHTML = rows; // escaped by the server's templates; no script runs under our Content Security Policy
    for (const line of made.content.querySelectorAll(":scope > li")) line.classList.add("q-fresh");
    list.prepend(made.content);
    this.querySelector("[data-empty]")?.remove();
    while (list.children.length > MAXIMUM_LINES) list.lastElementChild?.remove();
    this.#tell();
  }
}

customElements.define("frame-log", FrameLog);
