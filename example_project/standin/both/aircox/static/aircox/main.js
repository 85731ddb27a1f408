// Follows links as aircox's pages do: the new page is fetched and only the inside of #app is
// replaced. What the new page adds to <head>, and its scripts, are not taken over.

const APP = "#app";

function isOurs(address, element) {
  return !element.target && (address.startsWith("/") || address.startsWith("?"));
}

async function swap(address, options = {}, remember = true) {
  const response = await fetch(address, options);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const app = page.querySelector(APP);
  if (!app) {
    window.location.assign(address);
    return;
  }
  document.querySelector(APP).innerHTML = app.innerHTML;
  document.title = page.title;
  if (remember) window.history.pushState({}, "", response.url);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const address = link?.getAttribute("href");
  if (!link || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || !isOurs(address, link)) return;
  event.preventDefault();
  swap(address);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const address = form.getAttribute("action") || window.location.pathname;
  if (event.defaultPrevented || !isOurs(address, form)) return;
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(form));
  if (form.method === "post") swap(address, { method: "POST", body: fields });
  else swap(`${address.split("?")[0]}?${fields}`);
});

// The one player of the page is an Audio object that is in no page, as aircox's is, and plays on wherever the page goes.
// What it is given is aircox's way, too: the live streams are <source>s, of which the browser takes the first that it
// can play, and are loaded before anybody presses a button; a sound is the object's own address.
const LIVE = -1;

class Player {
  constructor(bar) {
    this.audio = new Audio();
    this.sounds = []; // what was asked for, on whatever page
    this.current = LIVE;
    this.streams = bar.dataset.streams.split(" ");
    this.toggle = bar.querySelector(".toggle");
    this.sound = bar.querySelector(".sound");
    this.position = bar.querySelector(".position");
    this.live = bar.querySelector(".live");
    for (const type of ["playing", "pause", "durationchange", "timeupdate"]) {
      this.audio.addEventListener(type, () => this.show());
    }
    this.audio.addEventListener("ended", () => this.play(this.current === LIVE ? LIVE : this.current + 1));
    this.toggle.addEventListener("click", () => (this.audio.paused ? this.start() : this.audio.pause()));
    this.live.addEventListener("click", () => this.play(LIVE));
    this.position.addEventListener("change", () => {
      this.audio.currentTime = this.position.value;
    });
    this.load(LIVE);
    bar.hidden = false;
  }

  load(number) {
    const sound = this.sounds[number];
    this.current = sound ? number : LIVE;
    if (sound) this.audio.src = sound.address;
    else {
      const sources = this.streams.map((src) => Object.assign(document.createElement("source"), { src }));
      this.audio.removeAttribute("src");
      this.audio.replaceChildren(...sources);
    }
    this.audio.load();
    this.show();
  }

  play(number) {
    this.load(number);
    this.start();
  }

  start() {
    this.audio.play().catch(() => this.show()); // nothing there, or another sound was asked for meanwhile
  }

  listen(address, name) {
    if (!this.sounds.some((sound) => sound.address === address)) this.sounds.push({ address, name });
    this.play(this.sounds.findIndex((sound) => sound.address === address));
  }

  show() {
    const sound = this.sounds[this.current];
    this.toggle.ariaPressed = String(!this.audio.paused);
    this.sound.textContent = sound ? sound.name : this.sound.dataset.live;
    this.live.hidden = !sound;
    this.position.hidden = !(sound && Number.isFinite(this.audio.duration));
    if (this.position.hidden) return;
    this.position.max = this.audio.duration;
    if (!this.position.matches(":active")) this.position.value = this.audio.currentTime;
  }
}

const bar = document.querySelector("[data-streams]");
const player = bar && new Player(bar);
window.aircox = { player };

document.addEventListener("click", (event) => {
  const sound = event.target.closest("[data-sound]");
  if (sound) player?.listen(sound.dataset.sound, sound.textContent);
});

window.addEventListener("popstate", () => swap(window.location.href, {}, false));
