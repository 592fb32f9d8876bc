"use strict";
/* Sort a table by a click on, or the Enter key at, the head of a column. Numbers sort by
   their value, and cells without one come last. */
function compare(first, second, isNumber) {
  const [a, b] = [first, second].map((cell) => cell.dataset.value);
  if (a === "" || b === "") return null;
  return isNumber ? Number(a) - Number(b) : a.localeCompare(b);
}

function sortTable(table, index, header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  const isNumber = header.classList.contains("number");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  rows.sort((first, second) => {
    const cells = [first.cells[index], second.cells[index]];
    const order = compare(...cells, isNumber);
    if (order === null) {
      return (cells[0].dataset.value === "") - (cells[1].dataset.value === "");
    }
    return ascending ? order : -order;
  });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, index) => {
    const button = header.querySelector("button");
    button.addEventListener("click", () => sortTable(table, index, header));
  });
}

/* Copy tables, and the text for a paper. Without scripts there are no such buttons. */
const LATEX = {
  "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
  "<": "$<$", ">": "$>$", "±": "$\\pm$", "²": "$^2$", "–": "--",
};

function escapeLatex(text) {
  return text.replace(/[\\~^<>±²–]|[&%$#_{}]/g, (part) => LATEX[part] ?? "\\" + part);
}

function readTable(table) {
  const heads = Array.from(table.tHead.rows[0].cells);
  return {
    caption: table.caption.textContent,
    columns: heads.map((head) => ({
      ...head.dataset,
      description: head.querySelector("button").title,
    })),
    rows: Array.from(table.tBodies[0].rows, (row) => Array.from(row.cells)),
  };
}

/* Values as they are shown, in the order in which they are. */
function toLatex(table) {
  const {caption, columns, rows} = readTable(table);
  const isNumber = ({type}) => type.endsWith("64");
  const write = (cell, index) => {
    const text = cell.textContent;
    if (!isNumber(columns[index]) || cell.dataset.value === "") return escapeLatex(text);
    return `$${text.replace(/e([+-])0*(\d+)$/, (_, sign, power) =>
      ` \\times 10^{${sign === "-" ? "-" : ""}${power}}`)}$`;
  };
  const join = (cells) => `${cells.join(" & ")} \\\\`;
  const units = columns.map(({unit}) => unit.replace(/(\w+?)(-?\d+)/g, "$1$^{$2}$"));
  return [
    "\\begin{table}",
    `\\caption{${escapeLatex(caption)}}`,
    `\\begin{tabular}{${columns.map((column) => isNumber(column) ? "r" : "l").join("")}}`,
    "\\hline",
    join(columns.map(({name}) => escapeLatex(name))),
    join(units),
    "\\hline",
    ...rows.map((cells) => join(cells.map(write))),
    "\\hline",
    "\\end{tabular}",
    "\\end{table}",
    "",
  ].join("\n");
}

/* Values in full precision, to be read by astropy.table.Table. */
function toEcsv(table) {
  const {caption, columns, rows} = readTable(table);
  const quote = (text) => /^[^\s"#]+$/.test(text) ? text : `"${text.replace(/"/g, '""')}"`;
  const write = ({dataset: {value}}, index) => {
    const {type} = columns[index];
    if (type === "bool") return value === "yes" ? "True" : "False";
    if (type === "float64" && value === "") return "nan";
    return quote(value);
  };
  const describe = ({name, unit, type, description}) => {
    const parts = {name, ...(unit && {unit}), datatype: type, ...(description && {description})};
    const texts = Object.entries(parts).map(([key, part]) => `${key}: ${JSON.stringify(part)}`);
    return `# - {${texts.join(", ")}}`;
  };
  return [
    "# %ECSV 1.0",
    "# ---",
    "# datatype:",
    ...columns.map(describe),
    `# meta: {caption: ${JSON.stringify(caption)}}`,
    "# schema: astropy-2.0",
    columns.map(({name}) => quote(name)).join(" "),
    ...rows.map((cells) => cells.map(write).join(" ")),
    "",
  ].join("\n");
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // not allowed, as for some browsers in a file of the disk
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function addCopyButtons(place, texts) {
  const box = document.createElement("p");
  box.className = "copy";
  for (const [label, make] of Object.entries(texts)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", async () => {
      await copyText(make());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
    box.append(button);
  }
  place.after(box);
}

for (const table of document.querySelectorAll("table.sortable")) {
  addCopyButtons(table.parentElement, {
    "Copy as LaTeX": () => toLatex(table),
    "Copy as ECSV": () => toEcsv(table),
  });
}
const paper = document.getElementById("paper-text");
addCopyButtons(paper, {"Copy text": () => paper.textContent});

/* Print what is folded, too. */
const folded = [];
window.addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const element of folded) element.open = true;
});
window.addEventListener("afterprint", () => {
  for (const element of folded.splice(0)) element.open = false;
});
