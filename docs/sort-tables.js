// A click on a heading sorts its table by that column; another click turns the order round.
document$.subscribe(() => {
  for (const heading of document.querySelectorAll("article table th")) {
    heading.style.cursor = "pointer";
    heading.addEventListener("click", () => {
      const body = heading.closest("table").tBodies[0];
      const text = (row) => row.cells[heading.cellIndex].textContent.trim();
      const order = heading.ariaSort === "ascending" ? -1 : 1;
      for (const other of heading.parentElement.cells) other.ariaSort = null;
      heading.ariaSort = order === 1 ? "ascending" : "descending";
      const compare = (a, b) => text(a).localeCompare(text(b), undefined, {numeric: true});
      body.append(...[...body.rows].sort((a, b) => order * compare(a, b)));
    });
  }
});
