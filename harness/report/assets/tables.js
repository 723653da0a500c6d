// The tables of the board: sort by a head, filter by name, choose columns. DataTables does the work on the page's own tables.
"use strict";
(() => {
  const NUMBER = /^(?:< )?([-+−]?(?:[\d.]+(?:e[-+]?\d+)?|inf))/;

  // The text of a cell, still escaped. DataTables itself unescapes what it searches.
  const withoutTags = (html) => String(html).replace(/<[^>]*>/g, "");

  // The text of a cell. What a template holds is inert: nothing of it is loaded or executed.
  function plain(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.textContent.trim();
  }

  // The number that an entry begins with; NaN for "failed", "—" and the like.
  function leadingNumber(html) {
    const found = NUMBER.exec(plain(html));
    return found ? Number(found[1].replace("−", "-").replace("inf", "Infinity")) : NaN;
  }

  // Entries without a number come last in both directions.
  function byNumber(sign) {
    return (a, b) => {
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return a === b ? 0 : sign * (a < b ? -1 : 1);
    };
  }

  const words = new Intl.Collator("en", { numeric: true });
  const byWords = (sign) => (a, b) => sign * words.compare(a, b);

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function columnsOf(table) {
    const labels = Number(table.dataset.labels);
    return [...table.tHead.rows[0].cells].map((head, index) => {
      const isLabel = index < labels;
      const higherIsBetter = head.textContent.includes("↑");
      return {
        ariaTitle: head.textContent,
        type: isLabel ? "name" : "entry",
        searchable: isLabel,
        orderSequence: higherIsBetter ? ["desc", "asc", ""] : ["asc", "desc", ""],
      };
    });
  }

  // Sort by a head's column, each time in its next order. DataTables' own listener would sort after the event, not in it.
  function sortOnHeads(table, shown, columns) {
    let sorted = -1;
    let turn = -1;
    const sort = (index) => {
      turn = index === sorted ? turn + 1 : 0;
      sorted = index;
      const sequence = columns[index].orderSequence;
      const direction = sequence[turn % sequence.length];
      shown.order(direction ? [[index, direction]] : []).draw();
    };
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      head.addEventListener("click", () => sort(index));
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(index);
      });
    });
  }

  function filterOf(table, shown) {
    const noun = table.dataset.noun;
    const count = element("output", { class: "count" });
    const input = element("input", { type: "search", placeholder: `filter ${noun}s`, "aria-label": `Filter ${noun}s` });
    input.addEventListener("input", () => {
      shown.search(input.value).draw();
      const visible = shown.rows({ search: "applied" }).count();
      count.value = input.value ? `${visible} of ${shown.rows().count()} ${noun}s` : "";
    });
    return [input, count];
  }

  function chooserOf(table, shown) {
    const labels = Number(table.dataset.labels);
    const list = element("fieldset", {}, element("legend", {}, "Columns shown"));
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      if (index < labels) return;
      const box = element("input", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", () => shown.column(index).visible(box.checked));
      list.append(element("label", {}, box, head.textContent));
    });
    const all = element("button", { type: "button" }, "all");
    const none = element("button", { type: "button" }, "none");
    for (const [button, isShown] of [[all, true], [none, false]]) {
      button.addEventListener("click", () => {
        for (const box of list.querySelectorAll("input")) {
          box.checked = isShown;
        }
        shown.columns().every(function () {
          if (this.index() >= labels) this.visible(isShown);
        });
      });
    }
    list.append(element("div", {}, all, none));
    return element("details", { class: "chooser" }, element("summary", {}, "Columns"), list);
  }

  function enhance(table) {
    const scroll = table.closest(".scroll");
    const headings = [...table.tHead.rows[0].cells].map((head) => head.textContent);
    const chooserIsUseful = headings.length - Number(table.dataset.labels) > 1;
    const bare = { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null };
    const chooser = (shown) => (chooserIsUseful ? [chooserOf(table, shown)] : []);
    const columns = columnsOf(table);
    const tools = element("div", { class: "tools" });
    scroll.before(tools);
    const shown = new DataTable(table, {
      columns, layout: bare, language: { zeroRecords: `no such ${table.dataset.noun}`, emptyTable: "empty" }, order: [], ordering: { handler: false }, paging: false, info: false, autoWidth: false,
    });
    sortOnHeads(table, shown, columns);
    tools.append(...chooser(shown));
    if (table.tBodies[0].rows.length > 1) tools.prepend(...filterOf(table, shown));
  }

  function start() {
    DataTable.ext.errMode = "throw";
    DataTable.type("entry", { order: { pre: leadingNumber, asc: byNumber(1), desc: byNumber(-1) } });
    DataTable.type("name", { order: { pre: plain, asc: byWords(1), desc: byWords(-1) }, search: withoutTags });
    for (const table of document.querySelectorAll("table[data-labels]")) enhance(table);
  }

  start();
})();
