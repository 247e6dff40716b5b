// Draws the charts and sorts the tables of a page. The specifications are in the element #charts, as JSON.
for (const [name, spec] of Object.entries(JSON.parse(document.getElementById("charts").textContent))) {
  const options = { renderer: "svg", actions: false, mode: "vega-lite", defaultStyle: false };
  options.tooltip = { disableDefaultStyle: true };
  vegaEmbed(document.getElementById(name), spec, options);
}

// Numbers within words by their size: "video 0.6" before "video 0.75", which letter by letter it is not.
const NUMBER = /(\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i;
function inOrder(one, two) {
  const [a, b] = [one.split(NUMBER), two.split(NUMBER)];
  for (let place = 0; place < Math.min(a.length, b.length); place++) {
    const order = place % 2 ? a[place] - b[place] : a[place].localeCompare(b[place]);
    if (order) return order;
  }
  return a.length - b.length;
}

// First the order that reads best (numbers from the largest, words from a), then the other, then as planned.
function sortBy(heading) {
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const numeric = heading.hasAttribute("data-numeric");
  const cycle = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
  const next = cycle[(cycle.indexOf(heading.ariaSort ?? "none") + 1) % 3];
  for (const other of heading.parentElement.cells) other.ariaSort = "none";
  heading.ariaSort = next;
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const planned = (row) => Number(row.dataset.planned);
  const compare = (one, two) => {
    const [a, b] = [key(one), key(two)];
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what has no value comes last, either way
    const order = numeric ? a - b : inOrder(a, b);
    return (next === "ascending" ? order : -order) || planned(one) - planned(two);
  };
  const rows = [...body.rows].sort(next === "none" ? (one, two) => planned(one) - planned(two) : compare);
  body.append(...rows);
}
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
