// The figures: values under the pointer or the arrow keys, and methods to hide. The pictures are the page's own SVG elements,
// whose attribute data-marks says where they show which value.
"use strict";
(() => {
  const REACH = 28; // pixels around a point in which the pointer finds it
  const MANY = 12; // series, above which their buttons are folded up
  const hidden = new Set(); // names, for all figures of the page
  const listeners = [];
  let active = null; // the figure whose value is shown

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const tip = element("div", { class: "tip", "aria-hidden": "true", hidden: "" });
  const ring = element("div", { class: "ring", "aria-hidden": "true", hidden: "" });
  document.body.append(tip, ring);

  function hideTip() {
    tip.hidden = true;
    ring.hidden = true;
  }

  // What a point says, line by line: its series, its two coordinates, and the value of a cell.
  function linesOf(marks, [panel, series, , , x, y, value]) {
    const { x: nameX, y: nameY, value: nameValue } = marks.panels[panel];
    const name = series < 0 ? "" : marks.series[series].name;
    const lines = [name, `${nameY || "y"}: ${y}`, `${nameX || "x"}: ${x}`];
    if (value !== undefined) lines.push(`${nameValue || "value"}: ${value}`);
    return lines.filter(Boolean);
  }

  function showTip(lines, x, y) {
    tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
    tip.hidden = false;
    ring.hidden = false;
    const width = document.documentElement.clientWidth;
    const box = tip.getBoundingClientRect();
    const left = Math.max(4, Math.min(x + 12, width - box.width - 4));
    const above = y - box.height - 12;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : y + 14}px`;
    ring.style.left = `${x}px`;
    ring.style.top = `${y}px`;
  }

  class InteractiveFigure {
    constructor(svg) {
      this.svg = svg;
      this.plot = svg.closest(".plot");
      this.marks = JSON.parse(svg.dataset.marks);
      this.current = -1;
      this.spoken = element("output", { class: "spoken", "aria-live": "polite" });
      this.plot.after(this.spoken);
      if (this.marks.data.length) this.listen();
      if (this.marks.series.length) this.addButtons();
    }

    listen() {
      this.svg.addEventListener("pointermove", (event) => this.point(event));
      this.svg.addEventListener("pointerdown", (event) => this.point(event));
      this.svg.addEventListener("pointerleave", hideTip);
      this.plot.addEventListener("blur", hideTip);
      this.plot.addEventListener("keydown", (event) => this.press(event));
    }

    isShown([, series]) {
      return series < 0 || !hidden.has(this.marks.series[series].name);
    }

    point(event) {
      const box = this.svg.getBoundingClientRect();
      let nearest = -1;
      let least = REACH;
      this.marks.data.forEach((point, index) => {
        const away = Math.hypot(box.left + point[2] * box.width - event.clientX, box.top + point[3] * box.height - event.clientY);
        if (away < least && this.isShown(point)) {
          nearest = index;
          least = away;
        }
      });
      this.current = nearest;
      if (nearest < 0) hideTip();
      else this.show();
    }

    show() {
      active = this;
      const point = this.marks.data[this.current];
      const box = this.svg.getBoundingClientRect();
      const lines = linesOf(this.marks, point);
      showTip(lines, box.left + point[2] * box.width, box.top + point[3] * box.height);
      return lines;
    }

    press(event) {
      const count = this.marks.data.length;
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key === "Escape") hideTip();
      if (event.key === "Home") this.walk(-1, 1);
      else if (event.key === "End") this.walk(count, -1);
      else if (event.key in steps) this.walk(this.current, steps[event.key]);
      else return;
      event.preventDefault();
    }

    // Go to the next point that is shown, from `start` in the direction of `step`.
    walk(start, step) {
      const points = this.marks.data;
      let index = start + step;
      if (start < 0 && step < 0) index = points.length - 1;
      while (index >= 0 && index < points.length && !this.isShown(points[index])) index += step;
      if (index < 0 || index >= points.length) return;
      this.current = index;
      const left = points[index][2] * this.svg.getBoundingClientRect().width;
      if (left < this.plot.scrollLeft || left > this.plot.scrollLeft + this.plot.clientWidth) {
        this.plot.scrollLeft = left - this.plot.clientWidth / 2;
      }
      this.spoken.value = this.show().join(", ");
    }

    addButtons() {
      const group = element("div", { class: "series", role: "group", "aria-label": "Methods shown in the figures" });
      const names = this.marks.series.map((series) => series.name);
      const buttons = this.marks.series.map((series) => {
        const swatch = element("span", { class: "swatch" });
        swatch.style.background = series.color;
        const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, element("bdi", {}, series.name));
        button.addEventListener("click", () => {
          if (!hidden.delete(series.name)) hidden.add(series.name);
          update();
        });
        return button;
      });
      group.append(...buttons);
      if (names.length > 1) group.append(...this.allAndNone(names));
      listeners.push(() => this.update(buttons));
      const isLong = names.length > MANY;
      const folded = isLong ? element("details", {}, element("summary", {}, `${names.length} methods`), group) : group;
      this.spoken.after(folded);
    }

    allAndNone(names) {
      const all = element("button", { type: "button", class: "plain" }, "all");
      const none = element("button", { type: "button", class: "plain" }, "none");
      all.addEventListener("click", () => {
        for (const name of names) hidden.delete(name);
        update();
      });
      none.addEventListener("click", () => {
        for (const name of names) hidden.add(name);
        update();
      });
      return [all, none];
    }

    update(buttons) {
      this.marks.series.forEach((series, index) => {
        const isHidden = hidden.has(series.name);
        buttons[index].setAttribute("aria-pressed", String(!isHidden));
        for (const [ids, name] of [[series.ids, "off"], [series.keys, "dim"]]) {
          for (const id of ids) document.getElementById(`${this.svg.id}-${id}`)?.classList.toggle(name, isHidden);
        }
      });
      hideTip();
    }
  }

  function update() {
    for (const listener of listeners) listener();
  }

  for (const svg of document.querySelectorAll("svg[data-marks]")) new InteractiveFigure(svg);
  const follow = () => {
    if (!tip.hidden) active.show();
  };
  window.addEventListener("scroll", follow, { passive: true, capture: true });
  window.addEventListener("resize", hideTip);
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
  });
})();
