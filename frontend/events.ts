/*
 * One stream of new readings per page, whatever number of elements follow it. It is closed while nobody looks at the
 * page, opens again by itself, and its absence is never an error: the page shows what it showed.
 */

export interface Reading {
  series: number;
  property: string;
  channel: string;
  unit: string;
  time: string;
  result: number | boolean | string | null;
  flags: number;
}

export interface Observed {
  municipality: string;
  kind: string;
  thing: string;
  name: string;
  readings: Reading[];
}

// What the server lets one page follow.
const MAXIMUM_THINGS = 200;

type Follower = (reading: Reading) => void;

const followers = new Map<string, Set<Follower>>();
let source: EventSource | undefined;
let opened = "";
let planned: number | undefined;
let pause_ms = 5_000;

function key(observed: Observed): string {
  return `${observed.municipality}/${observed.thing}`;
}

function receive(event: MessageEvent<string>): void {
  pause_ms = 5_000;
  let observed: Observed;
  try {
    observed = JSON.parse(event.data) as Observed;
  } catch {
    return; // not for us
  }
  for (const follower of followers.get(key(observed)) ?? []) observed.readings.forEach(follower);
}

function close(): void {
  source?.close();
  source = undefined;
  opened = "";
}

function open(): void {
  planned = undefined;
  const things = [...followers.keys()].sort().slice(0, MAXIMUM_THINGS).join(",");
  if (!things || document.visibilityState !== "visible") return close();
  if (source && opened === things && source.readyState !== EventSource.CLOSED) return;
  close();
  opened = things;
  source = new EventSource(`/live/events?things=${encodeURIComponent(things)}`);
  source.addEventListener("message", receive);
  source.addEventListener("readings", receive);
  source.addEventListener("error", () => {
    // The browser retries by itself unless the server said no (too many visitors): then later and later.
    if (source?.readyState === EventSource.CLOSED) {
      plan(pause_ms);
      pause_ms = Math.min(pause_ms * 2, 300_000);
    }
  });
}

function plan(in_ms: number): void {
  window.clearTimeout(planned);
  planned = window.setTimeout(open, in_ms);
}

document.addEventListener("visibilitychange", () => plan(document.visibilityState === "visible" ? 0 : 30_000));
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", () => plan(0));

/** Be told of every new reading of `thing` ("dortmund/do-klima-001"); returns a function that ends it. */
export function follow(thing: string, follower: Follower): () => void {
  const set = followers.get(thing) ?? new Set<Follower>();
  followers.set(thing, set.add(follower));
  plan(50);
  return () => {
    set.delete(follower);
    if (!set.size) followers.delete(thing);
    plan(50);
  };
}
