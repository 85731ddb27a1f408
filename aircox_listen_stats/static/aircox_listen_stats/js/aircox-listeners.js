// <aircox-listeners station="campus" src="/audience/live/campus.json"></aircox-listeners>
//
// How many listen now, by websocket, else by polling `src`. One module, nothing beside it.
// Attributes, parts, custom properties and the event: docs/live.md.

const PAYLOAD_VERSION = 1;
const LINGER_MS = 3000; // a line outlives its last element: a page swap must not reconnect
const HIDDEN_MS = 30000; // a tab that is hidden for so long hangs up
const SILENCE_MS = 45000; // the server repeats itself every 15 s; three times nothing is a dead line
const FIRST_DELAY_MS = 2000; // doubled with every failure, and spread by half to one and a half
const LONGEST_DELAY_MS = 60000;
const LONGEST_DELAY_NEVER_OPEN_MS = 300000; // most likely a station without ASGI
const FETCH_TIMEOUT_MS = 10000;
const DEFAULT_POLL_SECONDS = 15;
const SHORTEST_POLL_SECONDS = 2;
const DEFAULT_STALE_SECONDS = 60;
const DEFAULT_ANNOUNCE_SECONDS = 60;
const ANNOUNCEMENT_MS = 5000; // then it is taken away, so that nobody reads it twice
const CHECK_MS = 1000;
const NO_SOCKET = "none";
const DEFAULT_LABELS = { one: "listener", other: "listeners", unknown: "number of listeners unknown" };

// Under one name for the page, so that a second copy of this module shares the lines of the first.
const lines = (globalThis[Symbol.for("aircox-listeners.lines")] ??= new Map());

/** How long ago something was, by the clock that has gone further: one stops in sleep, one can be set. */
class Age {
  #steady = performance.now();
  #wall = Date.now();

  get ms() {
    return Math.max(performance.now() - this.#steady, Date.now() - this.#wall);
  }
}

/** The one connection of the page to one station; it runs while elements follow it. */
class Line {
  #key;
  #socketUrl;
  #jsonUrl;
  #pollMs;
  #followers = new Set();
  #socket = null;
  #wasOpen = false;
  #failures = 0;
  #running = false;
  #heard = null;
  #timers = new Map();
  #onVisibility = () => this.#visibilityChanged();
  #onPageHide = () => this.#pause();

  payload = null;

  constructor(key, { socketUrl, jsonUrl, pollMs }) {
    this.#key = key;
    this.#socketUrl = socketUrl;
    this.#jsonUrl = jsonUrl;
    this.#pollMs = pollMs;
  }

  /** The line with that key, made by the first who asks for it. */
  static to(settings) {
    const key = JSON.stringify([settings.socketUrl, settings.jsonUrl]);
    if (!lines.has(key)) lines.set(key, new Line(key, settings));
    return lines.get(key);
  }

  follow(follower) {
    this.#clear("linger");
    this.#followers.add(follower);
    if (this.#followers.size === 1 && !this.#running) {
      document.addEventListener("visibilitychange", this.#onVisibility);
      window.addEventListener("pagehide", this.#onPageHide);
      window.addEventListener("pageshow", this.#onVisibility);
      this.#visibilityChanged();
    }
  }

  unfollow(follower) {
    this.#followers.delete(follower);
    if (this.#followers.size === 0) this.#after("linger", LINGER_MS, () => this.#end());
  }

  isFresh(staleMs) {
    return this.#heard !== null && this.#heard.ms < staleMs;
  }

  #end() {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    window.removeEventListener("pagehide", this.#onPageHide);
    window.removeEventListener("pageshow", this.#onVisibility);
    this.#pause();
    lines.delete(this.#key);
  }

  #visibilityChanged() {
    if (document.hidden) {
      if (this.#running) this.#after("hidden", HIDDEN_MS, () => this.#pause());
      return;
    }
    this.#clear("hidden");
    if (this.#running) return;
    this.#running = true;
    if (this.#socketUrl === null) this.#poll();
    else this.#connect();
  }

  #pause() {
    this.#running = false;
    for (const name of ["hidden", "silence", "retry", "poll"]) this.#clear(name);
    this.#hangUp();
  }

  #connect() {
    let socket;
    try {
      socket = new WebSocket(this.#socketUrl);
    } catch {
      this.#failed(); // a page whose policy forbids it, or a URL that is none
      return;
    }
    this.#socket = socket;
    this.#expectSoon();
    socket.onmessage = (event) => {
      this.#wasOpen = true;
      this.#failures = 0;
      this.#clear("poll");
      this.#expectSoon();
      this.#take(event.data);
    };
    socket.onclose = () => {
      this.#hangUp();
      this.#failed();
    };
  }

  #expectSoon() {
    this.#after("silence", SILENCE_MS, () => {
      this.#hangUp();
      this.#failed();
    });
  }

  #hangUp() {
    const socket = this.#socket;
    this.#socket = null;
    this.#clear("silence");
    if (socket === null) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #failed() {
    if (!this.#running) return;
    const longest = this.#wasOpen ? LONGEST_DELAY_MS : LONGEST_DELAY_NEVER_OPEN_MS;
    const delay = Math.min(longest, FIRST_DELAY_MS * 2 ** this.#failures) * (0.5 + Math.random());
    this.#failures += 1;
    this.#after("retry", delay, () => this.#connect());
    // Polling fills the time until the websocket is back, if it ever comes.
    if (!this.#timers.has("poll")) this.#poll();
  }

  async #poll() {
    if (this.#jsonUrl === null) return;
    this.#after("poll", this.#pollMs * (0.9 + 0.2 * Math.random()), () => this.#poll());
    try {
      const response = await fetch(this.#jsonUrl, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
      if (response.ok && this.#running) this.#take(await response.text());
    } catch {
      // Nothing was heard; the figure grows stale by itself.
    }
  }

  #take(text) {
    let payload;
    try {
      payload = JSON.parse(text);
    } catch {
      return;
    }
    if (payload?.v !== PAYLOAD_VERSION) return;
    this.payload = payload;
    this.#heard = new Age();
    for (const follower of this.#followers) follower.refresh();
  }

  #after(name, ms, action) {
    this.#clear(name);
    this.#timers.set(
      name,
      setTimeout(() => {
        this.#timers.delete(name);
        action();
      }, ms),
    );
  }

  #clear(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}

const CSS = `
  :host {
    display: inline-flex;
    align-items: baseline;
    gap: var(--aircox-listeners-gap, 0.35em);
    color: var(--aircox-listeners-color, inherit);
    white-space: nowrap;
  }
  :host([hidden]), [hidden] { display: none; }
  [part="dot"] {
    align-self: center;
    width: var(--aircox-listeners-dot-size, 0.5em);
    height: var(--aircox-listeners-dot-size, 0.5em);
    border-radius: 50%;
    background: var(--aircox-listeners-dot-color, #1f9d55);
  }
  :host([data-state="unknown"]) [part="dot"] { background: var(--aircox-listeners-dot-unknown-color, #8a8f98); }
  [part="count"] { font-weight: var(--aircox-listeners-count-weight, 600); font-variant-numeric: tabular-nums; }
  [part="unknown"] { font-style: var(--aircox-listeners-unknown-style, italic); }
  .announcement { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
`;

/** A stylesheet that a strict Content-Security-Policy lets through, made once. */
const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);

function part(name, ...children) {
  const span = document.createElement("span");
  span.setAttribute("part", name);
  span.append(...children);
  return span;
}

class AircoxListeners extends HTMLElement {
  static observedAttributes = [
    ...["station", "socket", "src", "poll-seconds"],
    ...["stale-seconds", "lang", "label-unknown"],
    ...["zero", "one", "two", "few", "many", "other"].map((category) => `label-${category}`),
  ];

  #line = null;
  #clock = null;
  #told;
  #announcedAt = null;
  #announced = "";
  #fading = null;
  #dot = part("dot");
  #count = part("count");
  #label = document.createElement("slot");
  #labelPart = part("label", this.#label);
  #unknown = part("unknown");
  #announcement = document.createElement("span");

  constructor() {
    super();
    this.#label.name = "label";
    this.#dot.setAttribute("aria-hidden", "true");
    this.#announcement.className = "announcement";
    this.#announcement.setAttribute("aria-live", "polite");
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#dot, this.#count, this.#labelPart, this.#unknown, this.#announcement);
  }

  connectedCallback() {
    this.#join();
    this.#clock = setInterval(() => this.refresh(), CHECK_MS);
  }

  disconnectedCallback() {
    clearInterval(this.#clock);
    clearTimeout(this.#fading);
    this.#line?.unfollow(this);
    this.#line = null;
  }

  attributeChangedCallback(name) {
    if (!this.isConnected) return;
    if (["station", "socket", "src", "poll-seconds"].includes(name)) this.#join();
    else this.refresh();
  }

  /** The number of listeners, or null while it is unknown. */
  get listeners() {
    const listeners = this.#fresh?.listeners;
    return typeof listeners === "number" ? listeners : null;
  }

  /** Whether some of them are a server's number of sockets, which nobody told apart. */
  get includesTotals() {
    return this.listeners !== null && this.#fresh.includes_totals === true;
  }

  /** What is on air, as the payload tells it, or null. */
  get onAir() {
    return this.#fresh?.on_air ?? null;
  }

  /** Shows what is known now. The line calls it with news, the clock because news grow old. */
  refresh() {
    const listeners = this.listeners;
    const language = this.#language;
    this.dataset.state = listeners === null ? "unknown" : "live";
    this.toggleAttribute("data-includes-totals", this.includesTotals);
    this.#count.hidden = this.#labelPart.hidden = listeners === null;
    this.#unknown.hidden = listeners !== null;
    if (listeners === null) {
      write(this.#count, "");
      write(this.#unknown, this.getAttribute("label-unknown") ?? DEFAULT_LABELS.unknown);
    } else {
      write(this.#count, new Intl.NumberFormat(language).format(listeners));
      write(this.#label, this.#labelFor(listeners, language));
    }
    this.#tell(listeners);
    this.#announce();
  }

  #join() {
    const line = this.getAttribute("station") ? Line.to(this.#settings) : null;
    if (line !== this.#line) {
      this.#line?.unfollow(this);
      this.#line = line;
      line?.follow(this);
    }
    this.refresh();
  }

  get #settings() {
    const station = encodeURIComponent(this.getAttribute("station"));
    const socket = this.getAttribute("socket") ?? `/ws/listen-stats/${station}/`;
    const seconds = Math.max(SHORTEST_POLL_SECONDS, this.#number("poll-seconds", DEFAULT_POLL_SECONDS));
    return {
      socketUrl: socket === NO_SOCKET ? null : new URL(socket, location.href).href.replace(/^http/, "ws"),
      jsonUrl: this.hasAttribute("src") ? new URL(this.getAttribute("src"), location.href).href : null,
      pollMs: seconds * 1000,
    };
  }

  get #fresh() {
    const staleMs = this.#number("stale-seconds", DEFAULT_STALE_SECONDS) * 1000;
    return this.#line?.isFresh(staleMs) ? this.#line.payload : null;
  }

  get #language() {
    const language = this.closest("[lang]")?.getAttribute("lang") || navigator.language;
    return Intl.NumberFormat.supportedLocalesOf(language.replace("_", "-"))[0] ?? "en";
  }

  #labelFor(listeners, language) {
    const category = new Intl.PluralRules(language).select(listeners);
    const given = this.getAttribute(`label-${category}`) ?? this.getAttribute("label-other");
    return given ?? DEFAULT_LABELS[listeners === 1 ? "one" : "other"];
  }

  #number(name, otherwise) {
    const value = parseFloat(this.getAttribute(name));
    return Number.isFinite(value) && value > 0 ? value : otherwise;
  }

  #tell(listeners) {
    const told = JSON.stringify([listeners, this.includesTotals, this.onAir]);
    if (told === this.#told) return;
    const isFirst = this.#told === undefined;
    this.#told = told;
    if (isFirst && listeners === null) return; // nothing was said yet, so nothing has changed
    const detail = {
      station: this.getAttribute("station"),
      listeners,
      includesTotals: this.includesTotals,
      onAir: this.onAir,
      at: this.#line?.payload?.at ?? null,
    };
    this.dispatchEvent(new CustomEvent("listeners-change", { detail, bubbles: true, composed: true }));
  }

  /** Says a change aloud, but once a minute at most: a count moves all the time. */
  #announce() {
    const every = this.getAttribute("announce-seconds") === "0" ? 0 : this.#number("announce-seconds", DEFAULT_ANNOUNCE_SECONDS);
    if (every === 0 || this.#line?.payload === null) return;
    const shown = [this.#count, this.#labelPart, this.#unknown].filter((element) => !element.hidden);
    const text = shown.map((element) => spoken(element)).join(" ");
    if (text === this.#announced || (this.#announcedAt?.ms ?? Infinity) < every * 1000) return;
    const isFirst = this.#announcedAt === null;
    this.#announced = text;
    this.#announcedAt = new Age();
    if (isFirst) return; // the reader finds it where it stands
    this.#announcement.textContent = text;
    clearTimeout(this.#fading);
    this.#fading = setTimeout(() => (this.#announcement.textContent = ""), ANNOUNCEMENT_MS);
  }
}

/** Sets a text only where it differs, so that nothing is painted or read anew for nothing. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The text of a part as it is shown: that of the slotted label, where there is one. */
function spoken(element) {
  const slotted = element.firstElementChild?.assignedNodes?.() ?? [];
  return (slotted.length ? slotted.map((node) => node.textContent).join("") : element.textContent).trim();
}

if (!customElements.get("aircox-listeners")) customElements.define("aircox-listeners", AircoxListeners);
