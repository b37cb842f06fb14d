/* Words and numbers of the custom elements in the page's language. */

export const german = !document.documentElement.lang.startsWith("en");
export const locale = german ? "de-DE" : "en-GB";

/** The German or the English text, as the page is. */
export function say(de: string, en: string): string {
  return german ? de : en;
}

/** A number with exactly `decimals` places as the server writes it: real minus, small spaces from five digits on. */
export function formatNumber(value: number, decimals: number): string {
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals, useGrouping: Math.abs(value) >= 10_000 };
  return new Intl.NumberFormat(locale, options)
    .formatToParts(value)
    .map(({ type, value: text }) => (type === "group" ? "\u202f" : type === "minusSign" ? "\u2212" : text))
    .join("")
    .replace(/^\u2212(?=[0.,]*$)/, "");
}

/** How long ago, as the server writes it: one number and one unit, rounded down. */
export function ageInWords(seconds: number): string {
  if (seconds < 60) return say("gerade eben", "just now");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return say(minutes === 1 ? "vor 1 Minute" : `vor ${minutes} Minuten`, minutes === 1 ? "1 minute ago" : `${minutes} minutes ago`);
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return say(hours === 1 ? "vor 1 Stunde" : `vor ${hours} Stunden`, hours === 1 ? "1 hour ago" : `${hours} hours ago`);
  const days = Math.floor(hours / 24);
  if (days < 60) return say(`vor ${days} Tagen`, `${days} days ago`);
  const months = Math.floor(days / (365.2425 / 12));
  if (months < 24) return say(months === 1 ? "vor 1 Monat" : `vor ${months} Monaten`, months === 1 ? "1 month ago" : `${months} months ago`);
  const years = Math.floor(months / 12);
  return say(`vor ${years} Jahren`, `${years} years ago`);
}
