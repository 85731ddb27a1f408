// The charts of the pages, made interactive. Without this module every chart is a drawing and a
// table already; nothing here fetches anything.
import uPlot from "../vendor/uplot/uPlot.esm.js";

const GUTTER = 44; // px: the scale's column, as --ls-gutter in pages.css
const HEIGHT = 206; // px: as .ls-drawn in pages.css

/** Shows what the pointed or focused bar stands for. */
class Bars extends HTMLElement {
  connectedCallback() {
    const readout = this.querySelector(".ls-readout");
    if (!readout) return;
    const rest = readout.textContent;
    const tell = (event) => {
      const bar = event.target.closest("a");
      readout.textContent = bar ? bar.querySelector("title").textContent : rest;
      readout.classList.toggle("ls-telling", Boolean(bar));
    };
    for (const kind of ["pointerover", "focusin", "pointerleave", "focusout"]) {
      this.addEventListener(kind, tell);
    }
  }
}

/** The curve of a diffusion: a cursor that tells time, audience, and what was on air. */
class Curve extends HTMLElement {
  connectedCallback() {
    this.plotBox = this.querySelector(".ls-plot-curve");
    this.readout = this.querySelector(".ls-readout");
    if (!this.plotBox || this.plot) return;
    this.querySelector(".ls-drawn")?.remove(); // of an element that the station's page copied
    this.figures = JSON.parse(this.dataset.figures);
    if (!this.figures.curve.length) return;
    this.language = this.dataset.language; // of the numbers, as the tables have it
    this.clock = new Intl.DateTimeFormat(this.language, {
      hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: this.figures.zone,
    });
    this.draw();
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.plot?.redraw(false);
    this.scheme.addEventListener("change", this.recolour);
    this.point();
  }

  disconnectedCallback() {
    this.resized?.disconnect();
    this.scheme?.removeEventListener("change", this.recolour);
    this.plot?.destroy();
    this.plot = null;
    this.box?.remove();
    if (this.plotBox) this.plotBox.hidden = false;
  }

  draw() {
    const { start, end, top } = this.figures;
    const box = document.createElement("div");
    box.className = "ls-drawn";
    this.plotBox.after(box);
    const colour = (name) => getComputedStyle(this).getPropertyValue(name).trim();
    const options = {
      width: this.clientWidth,
      height: HEIGHT,
      padding: [8, 0, 8, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: { x: { time: false, range: [start, end] }, y: { range: [0, top] } },
      axes: [
        { show: false },
        {
          size: GUTTER,
          stroke: () => colour("--ls-muted"),
          font: "11px system-ui, sans-serif",
          grid: { stroke: () => colour("--ls-border"), width: 1 },
          ticks: { show: false },
          splits: () => [...this.plotBox.querySelectorAll(".ls-scale text")].map((_, step, all) => (top * step) / (all.length - 1)),
          values: (_, values) => values.map((value) => new Intl.NumberFormat(this.language).format(value)),
        },
      ],
      series: [
        {},
        {
          stroke: () => colour("--ls-accent"),
          width: 2,
          fill: () => `color-mix(in srgb, ${colour("--ls-accent")} 16%, transparent)`,
          paths: uPlot.paths.stepped({ align: 1 }),
          points: { show: false },
          spanGaps: false,
        },
      ],
      hooks: { drawClear: [(plot) => this.shade(plot, colour), (plot) => this.hatch(plot, colour)], setCursor: [(plot) => this.tell(plot)] },
    };
    this.plot = new uPlot(options, this.steps(), box);
    this.box = box;
    this.plotBox.hidden = true;
    box.tabIndex = 0;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", this.querySelector(".ls-plot-curve .ls-canvas").getAttribute("aria-label"));
    box.addEventListener("keydown", (event) => this.step(event));
    this.plot.over.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse") this.follow(event);
    });
    this.rest();
  }

  /** Times and values: each holds for its minute, the last one before a gap too. */
  steps() {
    const { start, end, curve } = this.figures;
    const times = [];
    const values = [];
    curve.forEach((value, minute) => {
      times.push(start + minute * 60);
      values.push(value);
      if (value !== null && (curve[minute + 1] ?? null) === null) {
        times.push(Math.min(start + minute * 60 + 59.999, end));
        values.push(value);
      }
    });
    return [times, values];
  }

  fit() {
    if (this.plot && this.clientWidth && this.plot.width !== this.clientWidth) {
      this.plot.setSize({ width: this.clientWidth, height: HEIGHT });
    }
  }

  /** What is still to come is no empty audience either. */
  shade({ ctx, bbox, valToPos }, colour) {
    const { to_come: from, end } = this.figures;
    if (from === null) return;
    const left = valToPos(from, "x", true);
    ctx.save();
    ctx.fillStyle = colour("--ls-raised");
    ctx.fillRect(left, bbox.top, valToPos(end, "x", true) - left, bbox.height);
    ctx.restore();
  }

  /** What was not observed is hatched: unknown, not empty. */
  hatch(plot, colour) {
    const { ctx, bbox } = plot;
    for (const [from, to, isTotal] of this.figures.gaps) {
      const left = plot.valToPos(from, "x", true);
      const width = Math.max(plot.valToPos(to, "x", true) - left, 1);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, width, bbox.height);
      ctx.clip();
      ctx.globalAlpha = isTotal ? 1 : 0.5;
      ctx.fillStyle = colour("--ls-raised");
      ctx.fillRect(left, bbox.top, width, bbox.height);
      ctx.strokeStyle = colour("--ls-hatch");
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.beginPath();
      for (let x = left - bbox.height; x < left + width; x += 8 * devicePixelRatio) {
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x + bbox.height, bbox.top);
      }
      ctx.stroke();
      ctx.restore();
    }
  }

  /** The minute under the cursor, in words. */
  tell(plot) {
    const { start, curve, joined, left, retention } = this.figures;
    const minute = Math.floor((plot.posToVal(plot.cursor.left, "x") - start) / 60);
    if (plot.cursor.left < 0 || !(minute in curve)) {
      this.rest();
      return;
    }
    this.minute = minute;
    const at = start + minute * 60;
    const number = new Intl.NumberFormat(this.language, { maximumFractionDigits: 1 });
    const words = [this.clock.format(at * 1000)];
    words.push(curve[minute] === null ? this.dataset.unknown : `${number.format(curve[minute])} ${this.dataset.listeners}`);
    if (joined && minute < joined.length && joined[minute] !== null && left[minute] !== null) {
      words.push(`+${joined[minute]} ${this.dataset.joined}, −${left[minute]} ${this.dataset.left}`);
    }
    if (minute < retention.length) {
      words.push(`${Math.round(retention[minute] * 100)} % ${this.dataset.stayed}`);
    }
    const under = this.under(plot.posToVal(plot.cursor.left, "x"));
    words.push(...under.map((one) => one.title).filter(Boolean).slice(-1));
    this.readout.textContent = words.join(" · ");
    this.readout.classList.add("ls-telling");
    this.mark(under.map((one) => one.id));
  }

  rest() {
    this.readout.textContent = this.readout.dataset.rest;
    this.readout.classList.remove("ls-telling");
    this.mark([]);
  }

  under(at) {
    return this.figures.under.filter((one) => one.start <= at && at < one.end);
  }

  mark(ids) {
    for (const one of (this.closest(".ls") ?? this).querySelectorAll("[data-airing]")) {
      one.classList.toggle("ls-pointed", ids.includes(Number(one.dataset.airing)));
    }
  }

  /** Arrow keys walk through the minutes. */
  step(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!steps) return;
    event.preventDefault();
    const last = this.figures.curve.length - 1;
    const minute = Math.min(Math.max((this.minute ?? -1) + steps, 0), last);
    this.plot.setCursor({ left: this.plot.valToPos(this.figures.start + (minute + 0.5) * 60, "x"), top: 0 });
  }

  follow(event) {
    const { left } = this.plot.over.getBoundingClientRect();
    this.plot.setCursor({ left: event.clientX - left, top: 0 });
  }

  /** Pointing at a track or its row shows the minute in which it began. */
  point() {
    for (const one of this.querySelectorAll(".ls-band")) {
      one.addEventListener("pointerenter", () => {
        const airing = this.figures.under.find((under) => under.id === Number(one.dataset.airing));
        const from = Math.max(airing.start, this.figures.start);
        this.plot?.setCursor({ left: this.plot.valToPos(from, "x") + 1, top: 0 });
      });
    }
  }
}

/** Opens the definitions when a label leads there, in browsers that leave them closed. */
class Definitions extends HTMLElement {
  connectedCallback() {
    this.open = () => {
      const wanted = location.hash.startsWith("#ls-def-") && document.getElementById(location.hash.slice(1));
      if (!wanted || !this.contains(wanted)) return;
      this.querySelector("details").open = true;
      wanted.scrollIntoView();
    };
    addEventListener("hashchange", this.open);
    this.open();
  }

  disconnectedCallback() {
    removeEventListener("hashchange", this.open);
  }
}

/** A country's name in the reader's language, instead of its code. */
class Country extends HTMLElement {
  connectedCallback() {
    const code = this.textContent.trim();
    if (!/^[A-Z]{2}$/.test(code)) return; // of an element that the station's page copied: the name
    this.textContent = new Intl.DisplayNames([this.dataset.language], { type: "region" }).of(code);
  }
}

customElements.define("listen-stats-country", Country);
customElements.define("listen-stats-definitions", Definitions);
customElements.define("listen-stats-bars", Bars);
customElements.define("listen-stats-curve", Curve);
