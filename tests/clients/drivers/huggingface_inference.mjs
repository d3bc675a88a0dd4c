// Hugging Face's JavaScript client, which throws on a list that is not nested.
import { textClassification } from "@huggingface/inference";

const [address, given] = process.argv.slice(2);
const texts = JSON.parse(given);
const answers = [[], []];
for (const text of texts) {
  const found = await textClassification({ endpointUrl: `${address}/hf`, inputs: text });
  const sorted = [...found].sort((one, other) => (one.label < other.label ? -1 : 1));
  answers[0].push(found[0].label);
  answers[1].push(sorted.map((one) => one.score));
}
let refused = false;
try {
  await textClassification({ endpointUrl: `${address}/hf`, inputs: "x".repeat(10001) });
} catch (error) {
  refused = true;
}
if (!refused) throw new Error("not refused");
console.log(JSON.stringify(answers));
