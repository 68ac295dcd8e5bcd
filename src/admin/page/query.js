// The SQL box over the committed files.
//
// Owns: the form, the token (in its field alone, gone with the page), the result.
// Does not own: what may be asked: the service refuses with a sentence.

import { count, foreign, many, milliseconds } from "./format.js";
import { Table, element, say } from "./table.js";

const NUMBER = /^(U?Int|Float|Decimal)/i;

export class Query {
  constructor(section) {
    this.section = section;
    const part = (id) => section.querySelector(`#${id}`);
    [this.form, this.sql, this.token] = [part("query-form"), part("sql"), part("token")];
    [this.tokenField, this.limits, this.outcome, this.result] = [part("token-field"), part("query-limits"), part("query-outcome"), part("query-result")];
    this.button = this.form.querySelector("button");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.sql.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
  }

  show(status) {
    this.section.hidden = !status.query.enabled;
    this.tokenField.hidden = !status.query.token;
    say(this.limits, `at most ${many(status.query.rows_max, "row")}, ${count(status.query.timeout_seconds)} s`);
    // A query to begin with; the reader's own text is left alone.
    if (!this.sql.value && !this.begun && status.query.enabled) {
      this.begun = true;
      const by = status.partition_by.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ");
      this.sql.value = by ? `SELECT ${by}, count(*) AS n\nFROM events GROUP BY ALL ORDER BY n DESC` : "SELECT count(*) AS n FROM events";
    }
  }

  async run() {
    if (this.isRunning) return;
    this.isRunning = true;
    this.button.disabled = true;
    this.tell("running …");
    try {
      const token = this.tokenField.hidden ? "" : this.token.value;
      const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
      const answer = await fetch("/api/query", { method: "POST", headers, body: JSON.stringify({ sql: this.sql.value }) });
      const body = await answer.json();
      if (answer.ok) this.showResult(body);
      else this.fail(body.error ?? `the service answered ${answer.status}`);
    } catch (error) {
      this.fail(error instanceof SyntaxError ? "the service gave no readable answer" : "the service cannot be reached");
    } finally {
      this.isRunning = false;
      this.button.disabled = false;
    }
  }

  showResult({ columns, rows, truncated, took_ms: took }) {
    const cut = truncated ? `, cut after ${many(rows.length, "row")}: there are more` : "";
    this.tell(`${many(rows.length, "row")} in ${milliseconds(took)}${cut}`, truncated ? "cut" : "");
    const table = new Table(this.result, "Result of the query", columns.map((column, index) => ({
      name: foreign(column.name),
      number: NUMBER.test(column.type),
      text: (row) => written(row[index]),
      dim: (row) => row[index] === null,
    })), "No row.");
    table.heads.forEach((head, index) => head.append(element("span", "type", foreign(columns[index].type))));
    table.show(rows);
  }

  fail(sentence) {
    this.tell(foreign(sentence), "failed");
    this.result.replaceChildren();
  }

  tell(text, kind = "") {
    this.outcome.className = `outcome ${kind}`;
    say(this.outcome, text);
  }
}

// A value as it is: no grouping of digits, which would not be in the data.
function written(value) {
  if (value === null) return "NULL";
  return foreign(typeof value === "object" ? JSON.stringify(value) : value);
}
