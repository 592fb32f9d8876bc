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
