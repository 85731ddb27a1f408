// Tells the station what the page's <audio> elements play: docs/sources/player_events.md.
// <script type="module" src="…" data-player-events="/audience/api/v1/stats/player-events/"></script>

const HEARTBEAT_MS = 30e3;
const VISIT_MS = 12 * 3600e3; // half of what the server allows
const STATES = {
  playing: "playing",
  pause: "paused", // also at the end
  waiting: "buffering",
  emptied: "stopped",
  seeking: "heartbeat",
  seeked: "seek",
  timeupdate: "",
};
const url = document.querySelector("[data-player-events]")?.dataset.playerEvents;
const players = new Map(); // audio -> what it plays, and where it was last seen
const waiting = []; // until there is a visit to tell of
let visit;
let last; // the visit that was told of last
let until = -1;
let sequence = 0;

async function flush() {
  const now = performance.now();
  if (now > until) {
    until = now + VISIT_MS;
    visit = fetch(url, { credentials: "omit" }).then((answer) => answer.json()).catch(() => ({}));
  }
  const told = await visit;
  if (!told.visit) until = -1;
  if (told !== last) sequence = 0; // each visit counts its own
  last = told;
  for (const { at, ...event } of waiting.splice(0)) {
    if (!told.visit) continue;
    const age_ms = Math.round(performance.now() - at);
    const body = JSON.stringify({ ...event, age_ms, visit: told.visit, sequence: sequence++ });
    navigator.sendBeacon?.(url, body) || fetch(url, { method: "POST", body, keepalive: true, credentials: "omit" });
  }
}

function look(audio, player) {
  if (audio.seeking || !audio.readyState) return; // it is elsewhere already: what was heard ends where it was seen last
  player.src = audio.currentSrc.split(/[?#]/)[0];
  player.position_ms = Math.round(audio.currentTime * 1000);
  player.duration_ms = Math.round(audio.duration * 1000); // a live stream's is none: JSON has no infinity
}

function tell(player, state) {
  const isNew = player.src && (state === "playing" || state === "seek");
  if (isNew || (state && player.plays)) {
    waiting.push({ ...player, plays: undefined, state, at: performance.now() });
    flush();
  }
  player.plays = state === "playing" || (player.plays && !/ed$|ing$/.test(state)); // paused, stopped, buffering
}

function on({ type, target }) {
  const player = players.get(target);
  if (type !== "emptied") look(target, player);
  tell(player, STATES[type]);
}

function each(state) {
  for (const [audio, player] of players) {
    look(audio, player);
    tell(player, state);
  }
}

function hear({ target }) {
  if (players.has(target)) return;
  players.set(target, {});
  for (const type in STATES) target.addEventListener(type, on);
}

if (url && navigator.doNotTrack !== "1" && !navigator.globalPrivacyControl) {
  addEventListener("play", hear, true); // elements of pages that are swapped in later, too
  setInterval(each, HEARTBEAT_MS, "heartbeat");
  addEventListener("visibilitychange", () => document.hidden && each("heartbeat"));
  addEventListener("pagehide", () => each("stopped"));
}
