/*
 * <live-value thing="dortmund/do-klima-001" property="air_temperature" channel="" decimals="1">
 *   <span data-value>21,4</span> °C, <time data-age datetime="2026-11-22T10:00:00Z">vor 3 Minuten</time>
 * </live-value>
 *
 * Keeps the text of [data-value] and the time element up to date. For values that are not numbers, [data-value] may say
 * data-true="frei" data-false="belegt". With the attribute `announce`, screen readers are told politely; by default not,
 * because a page of fifty values would never be silent.
 */
import { showAge } from "../ages";
import { follow, type Reading } from "../events";
import { formatNumber } from "../language";

class LiveValue extends HTMLElement {
  #stop: (() => void) | undefined;

  connectedCallback(): void {
    const thing = this.getAttribute("thing");
    if (!thing) return;
    if (this.hasAttribute("announce")) {
      this.setAttribute("role", "status");
    }
    this.#stop = follow(thing, (reading) => this.#show(reading));
  }

  disconnectedCallback(): void {
    this.#stop?.();
  }

  #concerns(reading: Reading): boolean {
    const series = this.getAttribute("series");
    if (series) return String(reading.series) === series;
    return reading.property === this.getAttribute("property") && reading.channel === (this.getAttribute("channel") ?? "");
  }

  #show(reading: Reading): void {
    if (!this.#concerns(reading)) return;
    const time = this.querySelector("time");
    // Readings that come late are history, not news.
    if (time?.dateTime && Date.parse(time.dateTime) >= Date.parse(reading.time)) return;
    const value = this.querySelector<HTMLElement>("[data-value]");
    if (value) {
      const text = this.#words(reading.result, value);
      if (text === undefined) return;
      value.textContent = text;
      value.classList.remove("q-fresh");
      void value.offsetWidth; // restarts the animation
      value.classList.add("q-fresh");
    }
    if (time) {
      time.dateTime = reading.time;
      time.removeAttribute("title");
      showAge(time);
    }
    this.dataset["flags"] = String(reading.flags);
  }

  #words(result: Reading["result"], value: HTMLElement): string | undefined {
    if (typeof result === "number") return formatNumber(result, Number(this.getAttribute("decimals") ?? "1"));
    if (typeof result === "boolean") return value.dataset[result ? "true" : "false"];
    return result ?? undefined;
  }
}

customElements.define("live-value", LiveValue);
