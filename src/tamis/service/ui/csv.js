// Parsing and writing CSV. Independent of the page's elements and of requests.

const DELIMITERS = [",", ";", "\t"];
const TEXT_NAMES = ["text", "message", "content", "body", "comment", "sms", "input"];

/** Return the delimiter that the first line contains most often. */
export function delimiterOf(text) {
  const line = text.slice(0, text.search(/[\r\n]|$/));
  const counts = DELIMITERS.map((one) => line.split(one).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))];
}

/** Parse CSV (RFC 4180) in parts; `push` returns the complete rows, `end` the last one. */
export class CsvParser {
  #row = [];
  #cell = "";
  #isQuoted = false;
  #wasQuote = false; // a quote within a quoted cell: its end, or half of an escaped quote
  #hasContent = false; // tells an empty row, which is skipped, from one with an empty cell

  constructor(delimiter) {
    this.delimiter = delimiter;
  }

  push(text) {
    const rows = [];
    for (const character of text) this.#take(character, rows);
    return rows;
  }

  end() {
    const rows = [];
    this.#wasQuote = this.#isQuoted = false;
    if (this.#hasContent) this.#endRow(rows);
    return rows;
  }

  #take(character, rows) {
    if (this.#isQuoted && !this.#wasQuote) {
      if (character === '"') this.#wasQuote = true;
      else this.#cell += character;
      return;
    }
    if (this.#wasQuote && character === '"') {
      this.#cell += '"';
      this.#wasQuote = false;
      return;
    }
    if (this.#wasQuote) this.#isQuoted = this.#wasQuote = false;
    if (character === "\n" || character === "\r") {
      if (this.#hasContent) this.#endRow(rows);
    } else if (character === this.delimiter) {
      this.#endCell();
    } else if (character === '"' && this.#cell === "") {
      this.#isQuoted = this.#hasContent = true;
    } else {
      this.#cell += character;
      this.#hasContent = true;
    }
  }

  #endCell() {
    this.#row.push(this.#cell);
    this.#cell = "";
    this.#hasContent = true;
  }

  #endRow(rows) {
    this.#endCell();
    rows.push(this.#row);
    this.#row = [];
    this.#hasContent = false;
  }
}

/** Return the index of the column that most likely has the texts: by its name, otherwise the longest cells. */
export function guessColumn(header, rows) {
  const names = header.map((name) => name.trim().toLowerCase());
  const named = TEXT_NAMES.map((name) => names.indexOf(name)).find((index) => index >= 0);
  if (named !== undefined) return named;
  const lengths = header.map((_, index) => rows.reduce((sum, row) => sum + (row[index]?.length ?? 0), 0));
  return lengths.indexOf(Math.max(...lengths));
}

// The same as `guarded` in tamis.service.call_log.formats, where the reasons are.
const STARTS = "=+\\-@'＝＋－＠";
const INVISIBLE = `[^\\p{L}\\p{N}_!-~${STARTS}]`;
const FORMULA = new RegExp(`^(?:${INVISIBLE}*[${STARTS}]|[\\t\\r\\n])`, "u");
const FORMULA_WITHIN = new RegExp(`([;\\t\\r\\n])(?=[^\\p{L}\\p{N}_!-~${STARTS}\\t\\r\\n]*[${STARTS}])(?![-+]\\))`, "gu");

/** Return a cell that no spreadsheet takes for a formula: with an apostrophe wherever one could begin. */
export function guarded(cell) {
  const within = cell.replace(FORMULA_WITHIN, "$1'");
  return FORMULA.test(cell) ? `'${within}` : within;
}

/** Return texts as a CSV body with the column `text`; all are quoted, so that an empty text is a row, too. */
export const csvOfTexts = (texts) => `text\r\n${texts.map((text) => `"${text.replaceAll('"', '""')}"\r\n`).join("")}`;

/** Return the records of a CSV body as objects by the names of its header. */
export function recordsOf(csv) {
  const parser = new CsvParser(",");
  const [names = [], ...rows] = [...parser.push(csv), ...parser.end()];
  return rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index]])));
}

/** Return a row as one CSV line. */
export const csvLine = (cells, delimiter) => `${cells.map((cell) => quoted(String(cell), delimiter)).join(delimiter)}\r\n`;

function quoted(cell, delimiter) {
  return /["\r\n]/.test(cell) || cell.includes(delimiter) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
