// Tells the station what the page's players play: docs/sources/player_events.md.
// Pages load player-events.min.js, which `make module` writes from this file:
// <script type="module" src="…" data-player-events="/audience/api/v1/stats/player-events/"></script>

const HEARTBEAT_MS = 30e3;
const VISIT_MS = 12 * 3600e3; // half of what the server allows
const STATES = {
  playing: "playing",
  pause: "paused", // also at the end
  waiting: "buffering",
  emptied: "stopped",
  error: "stopped",
  seeking: "heartbeat",
  seeked: "seek",
  timeupdate: "",
};
const url = document.querySelector("[data-player-events]")?.dataset.playerEvents;
const players = new WeakMap(); // element -> what it plays, and where it was last seen
const sounding = new Set(); // the elements that play: of the others none is held, a page may make any number of them
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
  player.src = audio.currentSrc.split(/[?#]/)[0]; // of several <source>s the one that was chosen, known by now
  player.position_ms = Math.round(audio.currentTime * 1000);
  player.duration_ms = Math.round(audio.duration * 1000); // a live stream's is none: JSON has no infinity
}

function tell(audio, state) {
  const player = players.get(audio);
  if (sounding.has(audio) ? state : player.src && (state === "playing" || state === "seek")) {
    waiting.push({ ...player, state, at: performance.now() });
    flush();
  }
  if (state === "playing") sounding.add(audio);
  else if (/ed$|ing$/.test(state)) sounding.delete(audio); // paused, stopped, buffering
}

function on({ type, target }) {
  if (type !== "emptied") look(target, players.get(target));
  tell(target, STATES[type]);
}

function each(state) {
  for (const audio of sounding) {
    look(audio, players.get(audio));
    tell(audio, state);
  }
}

function hear(audio) {
  if (players.has(audio)) return;
  for (const type in STATES) audio.addEventListener(type, on);
  players.set(audio, {});
}

if (url && navigator.doNotTrack !== "1" && !navigator.globalPrivacyControl) {
  const { prototype } = HTMLMediaElement;
  const { play } = prototype;
  prototype.play = function (...given) {
    try {
      hear(this); // aircox's own player is an Audio object that is in no page: none of its events reaches the window
    } catch {
      // What is wrong with us is not the player's matter.
    }
    return play.apply(this, given);
  };
  addEventListener("play", ({ target }) => hear(target), true); // the browser's own buttons, and autoplay
  setInterval(each, HEARTBEAT_MS, "heartbeat");
  addEventListener("visibilitychange", () => document.hidden && each("heartbeat"));
  addEventListener("pagehide", () => each("stopped"));
}
