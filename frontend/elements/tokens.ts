/** The value of a custom property of the page, such as --q-ink. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--q-${name}`).trim();
}
