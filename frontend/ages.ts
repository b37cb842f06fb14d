/* Keeps every `<time data-age>` right while a page stays open. */
import { ageInWords } from "./language";

/** Write the age of one time element anew. */
export function showAge(element: HTMLTimeElement): void {
  const moment = Date.parse(element.dateTime);
  if (Number.isNaN(moment)) return;
  const text = ageInWords((Date.now() - moment) / 1000);
  if (element.textContent !== text) element.textContent = text;
}

/** Look at all of them every twenty seconds while somebody looks at the page. */
export function keepAgesRight(): void {
  setInterval(() => {
    if (document.visibilityState === "visible") document.querySelectorAll<HTMLTimeElement>("time[data-age]").forEach(showAge);
  }, 20_000);
}
