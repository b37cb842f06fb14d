/*
 * A map as the second view of a list that is complete without it.
 *
 * <city-map src="/orte.geojson?messgroesse=air_temperature" label="Karte der Orte" list="orte-liste" refresh="60">
 *   …what stands here stays visible without scripts or WebGL…
 * </city-map>
 *
 * src      GeoJSON of points, and of polygons that are coloured areas below them. Properties: name, url, text (value as the
 *          page writes it), class (0–8, colour), asleep
 *          (true: drawn hollow), kind_text, age_text; each optional but name. A foreign member `legend`
 *          [{class, label, asleep}] becomes the legend.
 * list     id of the list beside it: elements with data-thing="<feature id or properties.key>" light up their point on
 *          hover or focus.
 * refresh  seconds after which src is read again.
 * bounds   west,south,east,north to begin with (default: all points, or the cities).
 * size     "small" for a single place. Lines and polygons without scripts: none; the list is the map's content.
 * pick     ids of two inputs "lon-id,lat-id": the map becomes a way to choose a position by click or keyboard.
 * point    lon,lat of a marker.
 */
import "maplibre-gl/dist/maplibre-gl.css";
import "../styles/map.css";
import { type GeoJSONSource, type LngLatBoundsLike, LngLatBounds, Map as MapLibreMap, type MapGeoJSONFeature, Marker, NavigationControl, Popup, ScaleControl, setWorkerUrl } from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import { german, say } from "../language";
import { plainStyle } from "./map-style";
import { token } from "./tokens";

setWorkerUrl(workerUrl);

type Collection = GeoJSON.FeatureCollection<GeoJSON.Geometry, Record<string, unknown>> & {
  legend?: { class: number; label: string; asleep?: boolean }[];
};

const WORDS_DE: Record<string, string> = {
  "NavigationControl.ZoomIn": "Vergrößern",
  "NavigationControl.ZoomOut": "Verkleinern",
  "NavigationControl.ResetBearing": "Nach Norden ausrichten",
  "AttributionControl.ToggleAttribution": "Quellen der Karte",
  "CooperativeGesturesHandler.WindowsHelpText": "Strg und Mausrad vergrößern die Karte",
  "CooperativeGesturesHandler.MacHelpText": "⌘ und Mausrad vergrößern die Karte",
  "CooperativeGesturesHandler.MobileHelpText": "Karte mit zwei Fingern bewegen",
  "Popup.Close": "Schließen",
  "Map.Title": "Karte",
  "Marker.Title": "Markierung",
};

const EMPTY: Collection = { type: "FeatureCollection", features: [] };
const CITIES: LngLatBoundsLike = [7.29, 51.38, 7.67, 51.61];

class CityMap extends HTMLElement {
  #map: MapLibreMap | undefined;
  #data: Collection = EMPTY;
  #popup: Popup | undefined;
  #timer: number | undefined;
  #stops: AbortController | undefined;

  connectedCallback(): void {
    this.#stops = new AbortController();
    // The code of the map is large and a map below the fold may never be seen.
    const watch = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        watch.disconnect();
        this.#start().catch((error: unknown) => this.#giveUp(error));
      }
    }, { rootMargin: "300px" });
    watch.observe(this);
    this.#stops.signal.addEventListener("abort", () => watch.disconnect());
  }

  disconnectedCallback(): void {
    this.#stops?.abort();
    window.clearInterval(this.#timer);
    this.#map?.remove();
    this.#map = undefined;
  }

  /** The page keeps what stood in the element; a map that cannot be drawn is no error for the visitor. */
  #giveUp(error: unknown): void {
    console.warn("the map cannot be drawn", error);
    this.ariaBusy = null;
    this.querySelector(".q-map__canvas")?.remove();
    if (!this.querySelector(".q-map__note")) {
      const note = document.createElement("p");
      note.className = "q-map__note";
      note.textContent = say("Die Karte kann hier nicht gezeigt werden. Alle Orte stehen in der Liste.", "The map cannot be shown here. All places are in the list.");
      this.append(note);
    }
  }

  async #start(): Promise<void> {
    const canvas = document.createElement("div");
    canvas.className = "q-map__canvas";
    this.ariaBusy = "true";
    this.prepend(canvas);
    const style = document.querySelector<HTMLMetaElement>('meta[name="map-style"]')?.content;
    if (this.getAttribute("src")) this.#data = await this.#fetch();
    const map = new MapLibreMap({
      container: canvas,
      style: style || plainStyle(),
      bounds: this.#bounds(),
      fitBoundsOptions: { padding: this.getAttribute("src") ? 36 : 4, maxZoom: 14.5 },
      maxZoom: 18,
      minZoom: 8,
      cooperativeGestures: true,
      dragRotate: false,
      pitchWithRotate: false,
      attributionControl: style ? {} : { compact: false, customAttribution: say("vereinfachte Karte von Quartier", "simplified map by Quartier") },
      ...(german ? { locale: WORDS_DE } : {}),
    });
    this.#map = map;
    map.touchZoomRotate.disableRotation();
    map.addControl(new NavigationControl({ showCompass: false }), "top-right");
    map.addControl(new ScaleControl({ unit: "metric" }), "bottom-left");
    const drawn = map.getCanvas();
    drawn.setAttribute("aria-label", this.getAttribute("label") ?? say("Karte", "Map"));
    drawn.setAttribute("role", "application");
    drawn.setAttribute("aria-roledescription", say("Karte", "map"));
    map.on("error", (event) => console.warn("map", event.error));
    map.on("style.load", () => this.#draw());
    map.once("idle", () => (this.ariaBusy = null));
    if (!style) {
      const dark = matchMedia("(prefers-color-scheme: dark)");
      dark.addEventListener("change", () => map.setStyle(plainStyle(), { diff: false }), { signal: this.#stops!.signal });
    }
    this.#legend();
    this.#follow(map);
    this.#pick(map);
    const refresh_s = Number(this.getAttribute("refresh") ?? "0");
    if (refresh_s >= 10) this.#timer = window.setInterval(() => void this.#refresh(), refresh_s * 1000);
  }

  async #fetch(): Promise<Collection> {
    const response = await fetch(this.getAttribute("src")!, { headers: { Accept: "application/geo+json" }, signal: this.#stops!.signal });
    if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
    return (await response.json()) as Collection;
  }

  async #refresh(): Promise<void> {
    if (document.visibilityState !== "visible") return;
    try {
      this.#data = await this.#fetch();
    } catch {
      return; // what is shown stays; the next try comes
    }
    this.#map?.getSource<GeoJSONSource>("things")?.setData(this.#data);
    this.#legend();
  }

  #bounds(): LngLatBoundsLike {
    const given = this.getAttribute("bounds")?.split(",").map(Number);
    if (given?.length === 4 && given.every(Number.isFinite)) return given as [number, number, number, number];
    const point = this.#point();
    if (point) return [point[0] - 0.008, point[1] - 0.005, point[0] + 0.008, point[1] + 0.005];
    const bounds = new LngLatBounds();
    for (const { geometry } of this.#data.features) {
      if (geometry?.type === "Point") bounds.extend(geometry.coordinates as [number, number]);
      else if (geometry?.type === "Polygon") for (const corner of geometry.coordinates[0] ?? []) bounds.extend(corner as [number, number]);
    }
    return bounds.isEmpty() ? CITIES : bounds;
  }

  #point(): [number, number] | undefined {
    const given = this.getAttribute("point")?.split(",").map(Number);
    return given?.length === 2 && given.every(Number.isFinite) ? (given as [number, number]) : undefined;
  }

  #draw(): void {
    const map = this.#map;
    if (!map || map.getSource("things")) return;
    map.addSource("things", { type: "geojson", data: this.#data, promoteId: "key" });
    const colour = ["match", ["coalesce", ["get", "class"], 0], 1, token("class-1"), 2, token("class-2"), 3, token("class-3"), 4, token("class-4"), 5, token("class-5"), 6, token("class-6"), 7, token("class-7"), 8, token("class-8"), token("class-0")];
    const lit = ["boolean", ["feature-state", "lit"], false];
    map.addLayer({
      id: "areas",
      type: "fill",
      source: "things",
      filter: ["==", ["geometry-type"], "Polygon"],
      paint: { "fill-color": colour as never, "fill-opacity": 0.55, "fill-outline-color": token("surface") },
    });
    map.addLayer({
      id: "things",
      type: "circle",
      source: "things",
      filter: ["==", ["geometry-type"], "Point"],
      layout: { "circle-sort-key": ["case", ["boolean", ["get", "asleep"], false], 0, 1] },
      paint: {
        "circle-radius": ["interpolate", ["linear"], ["zoom"], 9, ["case", lit, 8, 4.5], 13, ["case", lit, 13, 8], 16, ["case", lit, 16, 11]] as never,
        "circle-color": ["case", ["boolean", ["get", "asleep"], false], token("surface"), colour] as never,
        "circle-stroke-color": ["case", lit, token("ink"), ["boolean", ["get", "asleep"], false], token("class-0"), token("surface")] as never,
        "circle-stroke-width": ["case", lit, 3, 1.5] as never,
      },
    }, map.getLayer("district-names") ? "district-names" : undefined); // points must not hide the few names of our own map
    map.addLayer({
      id: "thing-values",
      type: "symbol",
      source: "things",
      filter: ["==", ["geometry-type"], "Point"],
      minzoom: 11,
      layout: { "text-field": ["coalesce", ["get", "text"], ""], "text-font": ["Fira Sans", "sans-serif"], "text-size": 13, "text-offset": [0, 1.15], "text-anchor": "top", "text-optional": true },
      paint: { "text-color": token("ink"), "text-halo-color": token("surface"), "text-halo-width": 1.75 },
    });
    const point = this.#point();
    if (point && !this.hasAttribute("pick")) this.#marker(point).addTo(map);
  }

  #marker(point: [number, number]): Marker {
    const pin = document.createElement("div");
    const shape = document.createElement("div");
    shape.className = "q-map__pin";
    pin.append(shape);
    return new Marker({ element: pin, anchor: "bottom" }).setLngLat(point);
  }

  #follow(map: MapLibreMap): void {
    for (const layer of ["things", "areas"]) {
      map.on("mouseenter", layer, () => (map.getCanvas().style.cursor = "pointer"));
      map.on("mouseleave", layer, () => (map.getCanvas().style.cursor = ""));
    }
    map.on("click", (event) => {
      // Points lie above areas, and come first.
      const [feature] = this.hasAttribute("pick") ? [] : map.queryRenderedFeatures(event.point, { layers: ["things", "areas"] });
      if (feature) this.#open(map, feature, [event.lngLat.lng, event.lngLat.lat]);
    });
    const list = document.getElementById(this.getAttribute("list") ?? "");
    if (!list) return;
    const options = { signal: this.#stops!.signal };
    for (const [on, off] of [["mouseover", "mouseout"], ["focusin", "focusout"]] as const) {
      list.addEventListener(on, (event) => this.#light(event, true), options);
      list.addEventListener(off, (event) => this.#light(event, false), options);
    }
  }

  #light(event: Event, lit: boolean): void {
    const thing = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-thing]")?.dataset["thing"] : undefined;
    if (thing && this.#map?.getSource("things")) this.#map.setFeatureState({ source: "things", id: thing }, { lit });
  }

  #open(map: MapLibreMap, feature: MapGeoJSONFeature, clicked: [number, number]): void {
    const place = feature.geometry.type === "Point" ? (feature.geometry.coordinates as [number, number]) : clicked;
    const { name, url, text, age_text, kind_text } = feature.properties as Record<string, string | undefined>;
    const content = document.createElement("div");
    const heading = document.createElement(url ? "a" : "strong");
    heading.textContent = name ?? "";
    if (url && heading instanceof HTMLAnchorElement) heading.href = url;
    content.append(heading);
    for (const [line, style] of [[kind_text, "q-soft q-small"], [text, "q-map__popup-value"], [age_text, "q-age"]] as const) {
      if (!line) continue;
      const row = document.createElement("div");
      row.className = style;
      row.textContent = line;
      content.append(row);
    }
    this.#popup?.remove();
    this.#popup = new Popup({ maxWidth: "18rem", offset: 10, focusAfterOpen: true }).setLngLat(place).setDOMContent(content).addTo(map);
  }

  #legend(): void {
    this.querySelector(".q-map__legend")?.remove();
    const { legend } = this.#data;
    if (!legend?.length) return;
    const list = document.createElement("ul");
    list.className = "q-map__legend";
    list.setAttribute("aria-label", say("Legende", "Legend"));
    for (const entry of legend) {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = entry.asleep ? "q-map__swatch q-map__swatch--asleep" : "q-map__swatch";
      swatch.dataset["class"] = String(entry.class);
      item.append(swatch, entry.label);
      list.append(item);
    }
    this.querySelector(".q-map__canvas")?.after(list);
  }

  /** Two inputs and a pin that follow each other. With the keyboard: move the map, Enter sets the pin to its centre. */
  #pick(map: MapLibreMap): void {
    const [lonId, latId] = (this.getAttribute("pick") ?? "").split(",");
    const lon = document.getElementById(lonId ?? "");
    const lat = document.getElementById(latId ?? "");
    if (!(lon instanceof HTMLInputElement) || !(lat instanceof HTMLInputElement)) return;
    let marker: Marker | undefined;
    const place = (point: [number, number], write: boolean): void => {
      if (!marker) {
        const made = this.#marker(point).setDraggable(true);
        made.on("dragend", () => {
          const { lng, lat: north } = made.getLngLat();
          place([lng, north], true);
        });
        marker = made;
      }
      marker.setLngLat(point).addTo(map);
      if (!write) return;
      lon.value = point[0].toFixed(5);
      lat.value = point[1].toFixed(5);
      lon.dispatchEvent(new Event("change", { bubbles: true }));
    };
    const read = (): void => {
      const point: [number, number] = [Number(lon.value.replace(",", ".")), Number(lat.value.replace(",", "."))];
      if (lon.value && lat.value && point.every(Number.isFinite) && Math.abs(point[1]) <= 90 && Math.abs(point[0]) <= 180) {
        place(point, false);
        map.easeTo({ center: point, zoom: Math.max(map.getZoom(), 14) });
      }
    };
    const options = { signal: this.#stops!.signal };
    for (const input of [lon, lat]) input.addEventListener("input", read, options);
    map.on("click", (event) => place([event.lngLat.lng, event.lngLat.lat], true));
    map.getCanvas().addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const { lng, lat: north } = map.getCenter();
      place([lng, north], true);
    }, options);
    read();
  }
}

customElements.define("city-map", CityMap);
