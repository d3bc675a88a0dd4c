// Scoring a CSV: choose or drop a file, guess its text column, send it in parts, download the result.
// Each part is a separate request: over HTTP/1.1 no browser reads a response while it is still sending.

import { csvLine, csvOfTexts, CsvParser, delimiterOf, guarded, guessColumn, recordsOf } from "./csv.js";
import { at, counted, element } from "./drawing.js";
import * as service from "./service.js";

const HEAD_BYTES = 65_536; // enough rows to guess the delimiter and the column
const BATCH_TEXTS = 200; // progress is shown, and cancelling is possible, after each batch
const BATCH_CHARACTERS = 60_000; // fits into the buffers of a connection
const RESULT_COLUMNS = ["label", "decision", "score", "error"];
const TEMPORARY = ["rate_limited", "overloaded", "model_unavailable", "keys_unavailable"];

let chosen = null;
let isCancelled = false;
let resultAddress = "";

/** Connect the view; `context` has `act`, which shows errors, and `selection`. */
export function startFiles(context) {
  const choose = () => context.act(() => chooseFile(at("file").files[0]));
  at("file").addEventListener("change", choose);
  at("csv-text").addEventListener("input", () =>
    context.act(() => chooseFile(new File([at("csv-text").value], "pasted.csv"))),
  );
  for (const name of ["dragover", "dragleave", "drop"]) {
    at("drop").addEventListener(name, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) context.act(() => chooseFile(event.dataTransfer.files[0]));
    });
  }
  at("score").addEventListener("submit", (event) => {
    event.preventDefault();
    context.act(() => scoreFile(context));
  });
  at("cancel").addEventListener("click", () => (isCancelled = true));
}

async function chooseFile(file) {
  at("score").hidden = at("download").hidden = true;
  chosen = null;
  if (!file?.size) return;
  const head = await file.slice(0, HEAD_BYTES).text();
  const delimiter = delimiterOf(head);
  const parser = new CsvParser(delimiter);
  const rows = parser.push(head.replace(/^\ufeff/, ""));
  if (file.size <= HEAD_BYTES) rows.push(...parser.end());
  const [header = [], ...samples] = rows;
  if (!samples.length) throw new service.Refusal("The file has no row after its header; the first row names the columns.");
  chosen = { file, delimiter, header };
  const guess = guessColumn(header, samples);
  at("column").replaceChildren(...header.map((name, index) => new Option(name || `column ${index + 1}`, index)));
  at("column").selectedIndex = guess;
  at("file-facts").textContent = `${file.name}: ${counted(header.length, "column")}, guessed text column: ${header[guess]}`;
  at("score").hidden = false;
  at("news").textContent = at("file-facts").textContent;
}

async function scoreFile({ selection }) {
  const { file, delimiter, header } = chosen;
  const column = at("column").selectedIndex;
  const parts = [csvLine([...header.map(guarded), ...RESULT_COLUMNS], delimiter)];
  const progress = { done: 0, bytes: 0 };
  isCancelled = false;
  at("score").ariaBusy = "true";
  at("progress-line").hidden = false;
  at("download").hidden = true;
  try {
    for await (const batch of batchesOf(file, delimiter, column, progress)) {
      const answers = await answersTo(batch.map((row) => row[column] ?? ""), selection());
      answers.forEach((answer, index) => {
        const cells = header.map((_, place) => guarded(batch[index][place] ?? ""));
        parts.push(csvLine([...cells, ...RESULT_COLUMNS.map((name) => answer[name])], delimiter));
      });
      progress.done += batch.length;
      showProgress(progress, file.size);
      if (isCancelled) break;
    }
  } finally {
    at("score").ariaBusy = "false";
    at("progress-line").hidden = true;
  }
  offer(parts, file.name, progress.done);
}

/** Yield batches of rows; the file is read as the batches are sent, not kept in memory. */
async function* batchesOf(file, delimiter, column, progress) {
  const parser = new CsvParser(delimiter);
  const reader = file.stream().pipeThrough(new TextDecoderStream()).getReader();
  let [batch, characters, isHeader] = [[], 0, true];
  for (let part = await reader.read(), isLast = false; !isLast; part = await reader.read()) {
    isLast = part.done;
    const rows = isLast ? parser.end() : parser.push(part.value);
    progress.bytes += isLast ? 0 : new Blob([part.value]).size;
    for (const row of rows) {
      if (isHeader) {
        isHeader = false;
        continue;
      }
      batch.push(row);
      characters += row[column]?.length ?? 0;
      if (batch.length >= BATCH_TEXTS || characters > BATCH_CHARACTERS) {
        yield batch;
        [batch, characters] = [[], 0];
      }
    }
  }
  if (batch.length) yield batch;
}

/** Return one record per text; texts after a temporary error, such as a rate limit, are sent again. */
async function answersTo(texts, selection) {
  const answers = [];
  while (answers.length < texts.length) {
    const remaining = texts.slice(answers.length);
    const records = recordsOf(await withRetries(() => service.scoreCsv(csvOfTexts(remaining), selection)));
    // the status was sent with the first answers, so a later error is the last record
    const isStopped = TEMPORARY.includes(records.at(-1)?.error);
    if (isStopped) records.pop();
    if (!isStopped && records.length !== remaining.length) throw new service.Refusal("The response ended early. Try again.");
    answers.push(...records);
    if (isStopped) await new Promise((resume) => setTimeout(resume, 1_000));
    if (isCancelled && isStopped) throw new service.Refusal("Cancelled while the service asked to wait.");
  }
  return answers;
}

/** Repeat a request after the `retry-after` of a rate limit or an overloaded service. */
async function withRetries(request) {
  for (;;) {
    try {
      return await request();
    } catch (refusal) {
      const isTemporary = refusal.status === 429 || refusal.status === 503;
      if (!isTemporary || !refusal.waitSeconds || isCancelled) throw refusal;
      at("progress-text").textContent = `The rate limit is reached; continuing in ${refusal.waitSeconds} s.`;
      await new Promise((resume) => setTimeout(resume, 1_000 * refusal.waitSeconds));
    }
  }
}

function showProgress({ done, bytes }, size) {
  at("progress").value = Math.min(1, bytes / size);
  at("progress-text").textContent = `${counted(done, "row")} scored`;
}

function offer(parts, name, done) {
  // the browser keeps the earlier result in memory until its address is revoked
  if (resultAddress) URL.revokeObjectURL(resultAddress);
  resultAddress = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  const link = element("a", "", `Download ${counted(done, "scored row")}`);
  link.href = resultAddress;
  link.download = name.replace(/(\.csv)?$/i, "-scored.csv");
  at("download").replaceChildren(link);
  at("download").hidden = false;
  at("news").textContent = `${isCancelled ? "Cancelled" : "Finished"}: ${counted(done, "row")} scored.`;
}
