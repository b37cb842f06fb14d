/*
 * Quartier's own plain base map: hand-drawn rivers, roads and greens of both cities and the districts' outlines, so that a
 * map needs no internet. Colours come from the page's custom properties and follow light and dark; letters are drawn from
 * the page's font, so no glyph server is needed.
 */
import type { ExpressionSpecification, StyleSpecification } from "maplibre-gl";
import { token } from "./tokens";

const widening = (least: number, most: number): ExpressionSpecification => ["interpolate", ["exponential", 1.6], ["zoom"], 9, least, 16, most];

export function plainStyle(): StyleSpecification {
  const kind = (name: string): ExpressionSpecification => ["==", ["get", "kind"], name];
  return {
    version: 8,
    sources: {
      base: { type: "geojson", data: new URL("/karte/grundkarte.json", location.href).href },
      districts: { type: "geojson", data: new URL("/karte/bezirke.json", location.href).href },
    },
    layers: [
      { id: "land", type: "background", paint: { "background-color": token("map-land") } },
      { id: "districts", type: "fill", source: "districts", paint: { "fill-color": token("surface"), "fill-opacity": 0.75 } },
      { id: "green", type: "fill", source: "base", filter: kind("green"), paint: { "fill-color": token("map-green") } },
      { id: "water", type: "fill", source: "base", filter: ["all", kind("water"), ["==", ["geometry-type"], "Polygon"]], paint: { "fill-color": token("map-water") } },
      { id: "river", type: "line", source: "base", filter: ["any", kind("river"), kind("water")], layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": token("map-water"), "line-width": widening(1.5, 10) } },
      { id: "rail", type: "line", source: "base", filter: kind("rail"), paint: { "line-color": token("map-rail"), "line-width": widening(0.6, 3), "line-dasharray": [4, 2] } },
      { id: "road-edge", type: "line", source: "base", filter: kind("road"), layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": token("map-road-edge"), "line-width": widening(1.6, 14) } },
      { id: "road", type: "line", source: "base", filter: kind("road"), layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": token("map-road"), "line-width": widening(0.7, 11) } },
      { id: "district-lines", type: "line", source: "districts", paint: { "line-color": token("map-border"), "line-width": 0.75, "line-opacity": 0.55, "line-dasharray": [3, 2] } },
      {
        id: "district-names",
        type: "symbol",
        source: "districts",
        minzoom: 10.5,
        layout: { "text-field": ["get", "name"], "text-font": ["Fira Sans", "sans-serif"], "text-size": 12, "text-max-width": 7 },
        paint: { "text-color": token("map-text"), "text-halo-color": token("surface"), "text-halo-width": 1.25, "text-opacity": 0.9 },
      },
      {
        id: "names",
        type: "symbol",
        source: "base",
        filter: kind("label"),
        maxzoom: 13,
        layout: { "text-field": ["get", "name"], "text-font": ["Fira Sans", "sans-serif"], "text-size": ["interpolate", ["linear"], ["zoom"], 9, 13, 13, 17], "text-max-width": 8 },
        paint: { "text-color": token("ink"), "text-halo-color": token("surface"), "text-halo-width": 1.5 },
      },
    ],
  };
}
