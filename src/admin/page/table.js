// A table whose rows are kept: only what has changed is written, so a selection or a scroll position survives each update.
//
// Owns: rows and cells.
// Does not own: what the columns show.

// Sets text, and only text: what comes from an event is never read as HTML.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Makes an element with a class and text.
export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

export class Table {
  // `columns`: { name, number, text(row), title(row), dim(row), head }; `root` is the element that the table goes into.
  constructor(root, caption, columns, empty) {
    this.columns = columns;
    this.empty = element("p", "empty", empty);
    const table = element("table");
    const head = table.createTHead().insertRow();
    this.heads = columns.map((column) => {
      const cell = element("th", column.number ? "number" : "", column.name);
      cell.scope = "col";
      head.append(cell);
      return cell;
    });
    table.createCaption().textContent = caption;
    table.caption.className = "hidden";
    this.body = table.createTBody();
    this.scroll = element("div", "scroll");
    // What scrolls must be reachable by keyboard.
    this.scroll.tabIndex = 0;
    this.scroll.setAttribute("role", "region");
    this.scroll.setAttribute("aria-label", caption);
    this.scroll.append(table);
    root.replaceChildren(this.empty, this.scroll);
    this.show([]);
  }

  show(rows) {
    this.empty.hidden = rows.length > 0;
    this.scroll.hidden = rows.length === 0;
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    while (this.body.rows.length < rows.length) this.addRow();
    rows.forEach((row, index) => this.fill(this.body.rows[index].cells, row));
  }

  addRow() {
    const row = this.body.insertRow();
    for (const column of this.columns) {
      const cell = element(column.head ? "th" : "td", column.number ? "number" : "");
      if (column.head) cell.scope = "row";
      row.append(cell);
    }
  }

  fill(cells, row) {
    this.columns.forEach((column, index) => {
      const cell = cells[index];
      say(cell, column.text(row));
      const title = column.title ? column.title(row) : "";
      if (cell.title !== title) cell.title = title;
      if (column.dim) cell.classList.toggle("dim", column.dim(row));
    });
  }
}
