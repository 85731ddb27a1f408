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

// The one player of the page plays the sound of a button, wherever the page goes from there.
document.addEventListener("click", (event) => {
  const sound = event.target.closest("[data-sound]")?.dataset.sound;
  const audio = document.querySelector("#player audio");
  if (!sound || !audio) return;
  audio.src = sound;
  audio.play();
});

window.addEventListener("popstate", () => swap(window.location.href, {}, false));
