/*
 * <time-chart label="Lufttemperatur, letzter Tag">
 *   <svg class="q-chart">…the server's picture, shown without scripts…</svg>
 *   <script type="application/json">{"series": [{"id": 12, "thing": "dortmund/do-klima-001", "name": "Lufttemperatur",
 *     "unit": "°C", "decimals": 1, "points": [[1763800000000, 21.4, 20.9, 22.0, 0], …]}], "gap_s": 3600,
 *     "since": 1763713600000, "until": 1763800000000}</script>
 * </time-chart>
 *
 * `words` of a series ["belegt", "frei"] are said for 100 and 0, and the line goes in steps.
 * A point is [time in ms, mean, smallest, largest, flagged, doubted]; mean may be null; doubted (optional) is a reading
 * that does not count. Draws the band from smallest to largest, the mean as a line (dashed differently per series), a
 * cross at flagged points and at doubted readings (at the edge where they lie outside); nothing between points further
 * apart than gap_s. A cursor for mouse, touch and arrow keys reads the values out. With the attribute `live`, raw new readings
 * of the series' things are added. The table of the same data stands behind it in the page.
 */
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { follow } from "../events";
import { formatNumber, locale, say } from "../language";
import { token } from "./tokens";

type Point = [time_ms: number, mean: number | null, low: number | null, high: number | null, flagged: number, doubted?: number | null];

interface Line {
  id?: number;
  thing?: string;
  name: string;
  unit: string;
  decimals: number;
  words?: [yes: string, no: string];
  points: Point[];
}

interface Content {
  series: Line[];
  gap_s?: number;
  since?: number;
  until?: number;
}

const ZONE = "Europe/Berlin";
const DASHES = [[], [7, 4], [2, 4], [12, 4, 2, 4], [4, 2], [14, 6]];
const COLUMNS = 3; // mean, smallest, largest of each series

const dayAndTime = new Intl.DateTimeFormat(locale, { timeZone: ZONE, weekday: "short", day: "numeric", month: "numeric", hour: "2-digit", minute: "2-digit" });
const fullDay = new Intl.DateTimeFormat(locale, { timeZone: ZONE, weekday: "short", day: "numeric", month: "long", year: "numeric" });
const hour = new Intl.DateTimeFormat(locale, { timeZone: ZONE, hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(locale, { timeZone: ZONE, day: "numeric", month: "numeric" });
const month = new Intl.DateTimeFormat(locale, { timeZone: ZONE, month: "short", year: "2-digit" });

/** One table of its own times per series; where data is missing for too long stands a null, at which the line breaks. */
function table(line: Line, gap_ms: number): uPlot.AlignedData {
  const columns: [number[], ...(number | null)[][]] = [[], [], [], []];
  let last = Number.NEGATIVE_INFINITY;
  for (const [time, mean, low, high] of line.points) {
    if (gap_ms && time - last > gap_ms && Number.isFinite(last)) [(last + 1) / 1000, null, null, null].forEach((v, i) => (columns[i] as (number | null)[]).push(v));
    [time / 1000, mean, low ?? mean, high ?? mean].forEach((v, i) => (columns[i] as (number | null)[]).push(v));
    last = time;
  }
  return columns as uPlot.AlignedData;
}

class TimeChart extends HTMLElement {
  #content: Content = { series: [] };
  #plot: uPlot | undefined;
  #index = 0;
  #stops: (() => void)[] = [];

  connectedCallback(): void {
    const script = this.querySelector('script[type="application/json"]');
    if (!script?.textContent || this.#plot) return;
    this.#content = JSON.parse(script.textContent) as Content;
    // Without any value that counts there is no scale; the server's picture stays.
    if (!this.#content.series.some((line) => line.points.some((point) => point[1] !== null))) return;
    this.#build();
    this.setAttribute("ready", "");
    if (this.hasAttribute("live")) {
      for (const line of this.#content.series) if (line.thing && line.id) this.#stops.push(follow(line.thing, (reading) => {
        if (reading.series === line.id && typeof reading.result === "number") this.#add(line, Date.parse(reading.time), reading.result, reading.flags);
      }));
    }
  }

  disconnectedCallback(): void {
    this.#stops.splice(0).forEach((stop) => stop());
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  #data(): uPlot.AlignedData {
    const gap_ms = (this.#content.gap_s ?? 0) * 1000;
    const tables = this.#content.series.map((line) => table(line, gap_ms));
    // 2: a null breaks the line, a time that only another series has does not.
    return tables.length === 1 ? tables[0]! : uPlot.join(tables, tables.map(() => [0, 2, 2, 2]));
  }

  #build(): void {
    const box = document.createElement("div");
    box.className = "q-timechart__plot";
    box.tabIndex = 0;
    box.setAttribute("role", "slider");
    box.setAttribute("aria-label", `${this.getAttribute("label") ?? ""} ${say("– Zeitpunkt wählen", "– choose a moment")}`.trim());
    const readout = document.createElement("p");
    readout.className = "q-timechart__readout";
    readout.setAttribute("aria-hidden", "true"); // the slider's value text says the same
    this.append(readout, box);
    const data = this.#data();
    this.#plot = new uPlot(this.#options(box.clientWidth, readout, box), data, box);
    this.#index = data[0].length - 1;
    this.#announce(box, readout, this.#index);
    box.addEventListener("keydown", (event) => this.#key(event, box));
    const size = new ResizeObserver(() => this.#plot?.setSize({ width: box.clientWidth, height: this.#height() }));
    size.observe(box);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = (): void => this.#rebuild(box, readout);
    dark.addEventListener("change", redraw);
    this.#stops.push(() => size.disconnect(), () => dark.removeEventListener("change", redraw));
  }

  #rebuild(box: HTMLElement, readout: HTMLElement): void {
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(box.clientWidth, readout, box), this.#data(), box);
  }

  #height(): number {
    return Math.round(Math.min(340, Math.max(220, this.clientWidth * 0.42)));
  }

  #options(width: number, readout: HTMLElement, box: HTMLElement): uPlot.Options {
    const { series, since, until } = this.#content;
    const colours = series.map((_line, index) => token(`series-${(index % 6) + 1}`));
    const unit = series[0]?.unit ?? "";
    const words = series.every((line) => line.words) ? series[0]?.words : undefined;
    const decimals = Math.min(...series.map((line) => line.decimals));
    const span_s = ((until ?? 0) - (since ?? 0)) / 1000;
    const axis: uPlot.Axis = { stroke: token("ink-soft"), font: "13px 'Fira Sans', sans-serif", grid: { stroke: token("line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: this.#height(),
      tzDate: (time_s) => uPlot.tzDate(new Date(time_s * 1000), ZONE),
      legend: { show: false },
      cursor: { points: { size: 9 }, drag: { x: true, y: false } },
      scales: { x: since && until ? { range: (_plot, min, max) => (max - min < span_s * 0.98 && this.#zoomed ? [min, max] : [Math.min(since / 1000, min), Math.max(until / 1000, max)]) } : {} },
      axes: [
        { ...axis, space: 70, values: (_plot, splits) => this.#timeLabels(splits) },
        words ? { ...axis, size: 88, splits: [0, 100], values: () => [words[1], words[0]] } : { ...axis, size: 56, values: (_plot, splits) => splits.map((value, i) => formatNumber(value, this.#decimalsOf(splits, decimals)) + (i === splits.length - 1 && unit.length < 4 ? ` ${unit}` : "")) },
      ],
      series: [
        {},
        ...series.flatMap((line, index): uPlot.Series[] => [
          { label: line.name, stroke: colours[index]!, width: 2, dash: DASHES[index % 6]!, points: { show: false }, spanGaps: false, ...(line.words ? { paths: uPlot.paths.stepped!({ align: 1 }) } : {}) },
          { stroke: "transparent", points: { show: false }, spanGaps: false },
          { stroke: "transparent", points: { show: false }, spanGaps: false },
        ]),
      ],
      bands: series.map((_line, index) => ({ series: [COLUMNS * index + 3, COLUMNS * index + 2], fill: `color-mix(in srgb, ${colours[index]} 18%, transparent)` })),
      hooks: {
        draw: [(plot) => this.#drawFlags(plot)],
        setCursor: [(plot) => {
          const index = plot.cursor.idx;
          if (index !== null && index !== undefined) this.#announce(box, readout, index);
        }],
        setSelect: [(plot) => (this.#zoomed = plot.select.width > 0)],
      },
    };
  }

  #zoomed = false;

  #decimalsOf(splits: number[], most: number): number {
    const step = splits.length > 1 ? Math.abs(splits[1]! - splits[0]!) : 1;
    // As many as the step has, or 2.5 and 7.5 would be called 3 and 8.
    let decimals = 0;
    while (decimals < Math.max(most, 2) && Math.abs(step - Number(step.toFixed(decimals))) > step * 1e-6) decimals += 1;
    return decimals;
  }

  #timeLabels(splits: number[]): string[] {
    const step_s = splits.length > 1 ? splits[1]! - splits[0]! : 3600;
    return splits.map((time_s) => {
      const moment = new Date(time_s * 1000);
      if (step_s >= 27 * 86_400) return month.format(moment);
      if (step_s >= 86_400) return day.format(moment);
      const text = hour.format(moment);
      return text === "00:00" ? `${day.format(moment)}` : text;
    });
  }

  #drawFlags(plot: uPlot): void {
    const { ctx } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = token("flag");
    ctx.lineWidth = 2 * ratio;
    for (const line of this.#content.series) {
      for (const [time, mean, , , flagged, doubted] of line.points) {
        const value = mean ?? doubted;
        if (!flagged || value === null || value === undefined) continue;
        const x = plot.valToPos(time / 1000, "x", true);
        const { top, height } = plot.bbox;
        const y = Math.min(top + height, Math.max(top, plot.valToPos(value, "y", true)));
        if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
        const r = 4 * ratio;
        ctx.beginPath();
        ctx.moveTo(x - r, y - r);
        ctx.lineTo(x + r, y + r);
        ctx.moveTo(x + r, y - r);
        ctx.lineTo(x - r, y + r);
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  #key(event: KeyboardEvent, box: HTMLElement): void {
    const plot = this.#plot;
    if (!plot) return;
    const last = plot.data[0].length - 1;
    const steps: Record<string, number> = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: Math.ceil(last / 10), PageDown: -Math.ceil(last / 10), Home: -last, End: last };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    let index = Math.min(last, Math.max(0, this.#index + step));
    // Steps over the places where nothing is known.
    while (index > 0 && index < last && !this.#content.series.some((_l, i) => typeof plot.data[COLUMNS * i + 1]?.[index] === "number")) index += Math.sign(step);
    this.#index = index;
    plot.setCursor({ left: plot.valToPos(plot.data[0][index]!, "x"), top: box.clientHeight / 3 }, true);
  }

  #announce(box: HTMLElement, readout: HTMLElement, index: number): void {
    const plot = this.#plot;
    const data = plot ? plot.data : this.#data();
    const time_s = data[0][index];
    if (time_s === undefined) return;
    this.#index = index;
    const moment = new Date(time_s * 1000);
    const span_ms = (this.#content.until ?? 0) - (this.#content.since ?? 0);
    const when = span_ms > 60 * 86_400_000 ? fullDay.format(moment) : dayAndTime.format(moment);
    const parts = this.#content.series.map((line, i) => {
      const mean = data[COLUMNS * i + 1]?.[index];
      if (typeof mean !== "number") return undefined;
      const said = line.words && mean === 100 ? line.words[0] : line.words && mean === 0 ? line.words[1] : undefined;
      if (said) return { index: i, text: `${this.#content.series.length > 1 ? `${line.name}: ` : ""}${said}` };
      const low = data[COLUMNS * i + 2]?.[index];
      const high = data[COLUMNS * i + 3]?.[index];
      const band = typeof low === "number" && typeof high === "number" && low !== high ? ` (${formatNumber(low, line.decimals)} ${say("bis", "to")} ${formatNumber(high, line.decimals)})` : "";
      return { index: i, text: `${this.#content.series.length > 1 ? `${line.name}: ` : ""}${formatNumber(mean, line.decimals)} ${line.unit}${band}` };
    });
    const known = parts.filter((part) => part !== undefined);
    readout.replaceChildren(
      Object.assign(document.createElement("span"), { textContent: when }),
      ...known.map(({ index: i, text }) => {
        const item = document.createElement("span");
        const mark = document.createElement("span");
        mark.className = `q-legend-mark q-series-${(i % 6) + 1}`;
        item.append(mark, text);
        return item;
      }),
    );
    box.setAttribute("aria-valuemin", "0");
    box.setAttribute("aria-valuemax", String(data[0].length - 1));
    box.setAttribute("aria-valuenow", String(index));
    box.setAttribute("aria-valuetext", [when, ...known.map(({ text }) => text)].join(", "));
  }

  #add(line: Line, time_ms: number, value: number, flags: number): void {
    const last = line.points.at(-1);
    if (!last || time_ms <= last[0] || !this.#plot) return;
    line.points.push([time_ms, value, value, value, flags ? 1 : 0]);
    if (this.#content.until && time_ms > this.#content.until) {
      // The window moves with time and keeps its length.
      const shift = time_ms - this.#content.until;
      this.#content.until += shift;
      if (this.#content.since) this.#content.since += shift;
      for (const each of this.#content.series) while (each.points[0] && this.#content.since && each.points[0][0] < this.#content.since) each.points.shift();
    }
    const box = this.querySelector<HTMLElement>(".q-timechart__plot");
    const readout = this.querySelector<HTMLElement>(".q-timechart__readout");
    if (box && readout) this.#rebuild(box, readout);
  }
}

customElements.define("time-chart", TimeChart);
