"use strict";
// Two jobs: tables with the class `sortable` sort by a click on a column's head, and the mistakes can be searched.
// Every string goes in as text (textContent), never as markup.

const make = (tag, text = "", className = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
};

const grouped = (number) => number.toLocaleString("en-GB");
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

// ---- tables

const keyOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = text === "" || text === "–" ? NaN : Number(text);
  return { text, number, empty: text === "" || text === "–" };
};

const sortBy = (table, column, heading) => {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, ...keyOf(row, column) }));
  const numeric = keyed.every((item) => item.empty || !Number.isNaN(item.number));
  const before = heading.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : !numeric || heading.dataset.first === "ascending";
  const compare = numeric ? (a, b) => a.number - b.number : (a, b) => a.text.localeCompare(b.text);
  keyed.sort((a, b) => a.empty - b.empty || (a.empty ? 0 : ascending ? compare(a, b) : compare(b, a)));
  body.append(...keyed.map((item) => item.row));
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((heading) => {
    const button = make("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, heading.cellIndex, heading));
  });
}

// ---- the row browser

const PAGE = 20;

const orders = {
  sure: (a, b) => b.probability - a.probability,
  unsure: (a, b) => a.probability - b.probability,
  heads: (a, b) => b.wrong_heads - a.wrong_heads || b.probability - a.probability,
  row: (a, b) => a.row - b.row,
};

// As a reader searches: case, white space and ways to write a character do not count.
const fold = (text) => text.normalize("NFKC").toLowerCase().replace(/\s+/g, " ");

const label = (data, position) => make("bdi", data.classes[position], "tag");

const labelled = (words, ...elements) => {
  const span = make("span", words);
  span.append(...elements);
  return span;
};

const neighbourList = (data, neighbours) => {
  const details = make("details");
  details.append(make("summary", neighbours.length === 1 ? "Nearest training text" : `${neighbours.length} nearest training texts`));
  const list = make("ol");
  for (const { row, cosine } of neighbours) {
    const known = data.texts[row];
    const item = make("li");
    item.append(label(data, known.label), ` `, make("bdi", known.text), make("span", ` cosine ${cosine.toFixed(3)}, row ${grouped(row)}`, "soft"));
    list.append(item);
  }
  details.append(list);
  return details;
};

const card = (data, row) => {
  const item = make("li");
  item.dataset.row = row.row;
  const text = make("p", "", "text");
  text.append(make("bdi", row.text));
  const meta = make("p", "", "meta");
  meta.append(labelled("true ", label(data, row.truth)), labelled("predicted ", label(data, row.predicted)));
  meta.append(make("span", `${percent(row.probability)} sure, true class ${percent(row.of_truth)}`));
  meta.append(make("span", `wrong in ${row.wrong_heads} of ${data.heads} heads`));
  if (row.copy) meta.append(make("span", `${row.copy} copy of a training text`));
  meta.append(make("span", `row ${grouped(row.row)}`));
  item.append(text, meta);
  if (row.neighbours.length) item.append(neighbourList(data, row.neighbours));
  return item;
};

const startBrowser = (browser) => {
  const data = JSON.parse(document.getElementById("mistakes-data").textContent);
  const part = (name) => document.getElementById(`mistakes-${name}`);
  const [search, truth, predicted, order] = ["search", "truth", "predicted", "order"].map(part);
  const [list, status, earlier, later, clear] = ["list", "status", "earlier", "later", "clear"].map(part);
  const folded = data.rows.map((row) => fold(row.text));
  let found = [];
  let start = 0;

  const show = () => {
    const end = Math.min(start + PAGE, found.length);
    const cards = found.slice(start, end).map((index) => card(data, data.rows[index]));
    list.replaceChildren(...cards);
    const place = found.length ? ` Showing ${grouped(start + 1)} to ${grouped(end)}.` : " Search for other words or clear the filters.";
    const total = grouped(data.rows.length);
    status.textContent = (found.length ? `${grouped(found.length)} of ${total} mistakes.` : `None of ${total} mistakes fits.`) + place;
    earlier.setAttribute("aria-disabled", String(start === 0));
    later.setAttribute("aria-disabled", String(end === found.length));
  };

  const choose = () => {
    const words = fold(search.value.trim());
    const fits = (row, index) =>
      (truth.value === "" || row.truth === Number(truth.value)) &&
      (predicted.value === "" || row.predicted === Number(predicted.value)) &&
      folded[index].includes(words);
    found = [];
    data.rows.forEach((row, index) => fits(row, index) && found.push(index));
    const compare = orders[order.value];
    found.sort((a, b) => compare(data.rows[a], data.rows[b]));
    start = 0;
    show();
  };

  const turn = (step) => {
    const next = start + step;
    if (next < 0 || next >= found.length) return;
    start = next;
    show();
    browser.scrollIntoView({ block: "start" });
  };

  const reset = () => {
    search.value = truth.value = predicted.value = "";
    choose();
    search.focus();
  };

  for (const [select, field] of [[truth, "truth"], [predicted, "predicted"]]) {
    const rows = new Map();
    for (const row of data.rows) rows.set(row[field], (rows.get(row[field]) ?? 0) + 1);
    data.classes.forEach((name, position) => {
      if (!rows.has(position)) return;
      const option = make("option", `${name} (${grouped(rows.get(position))})`);
      option.value = String(position);
      select.append(option);
    });
  }
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 120); // one search for a word, not one for each letter
  });
  for (const control of [truth, predicted, order]) control.addEventListener("change", choose);
  earlier.addEventListener("click", () => turn(-PAGE));
  later.addEventListener("click", () => turn(PAGE));
  clear.addEventListener("click", reset);
  for (const cell of document.querySelectorAll("[data-truth]")) {
    const button = make("button", cell.textContent, "link");
    button.type = "button";
    button.title = "Show these rows";
    button.addEventListener("click", () => {
      search.value = "";
      truth.value = cell.dataset.truth;
      predicted.value = cell.dataset.predicted;
      choose();
      browser.scrollIntoView({ block: "start" });
      search.focus({ preventScroll: true });
    });
    cell.replaceChildren(button);
  }
  browser.hidden = false;
  choose();
};

const browser = document.getElementById("mistakes-browser");
if (browser) startBrowser(browser);
