// The official Node SDK on everything but chat; prints the same as `../python/endpoints.py`. The
// argument is the name under which it is installed, as there are two versions of it.

import { BASE_URL, IMAGE, KEY, PNG, QUESTION, TEXT, all, show } from "./common.mjs";

const { default: OpenAI, toFile } = await import(process.argv[2] ?? "openai");
const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY });
const picture = () => toFile(PNG, "pixel.png", { type: "image/png" });
const sound = () =>
  toFile(Buffer.concat([Buffer.from("ID3"), Buffer.alloc(4000)]), "a.mp3", { type: "audio/mpeg" });
const CAT = { model: IMAGE, prompt: "a cat on the moon" };

/** Input and output, whatever this API calls them. */
const counts = (of) =>
  ["input_tokens", "output_tokens", "prompt_tokens", "completion_tokens"]
    .map((name) => of[name])
    .filter((count) => count !== undefined);

const isPng = (text) =>
  Buffer.from(text, "base64").subarray(0, 8).equals(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"));

async function completions() {
  const done = await client.completions.create({ model: TEXT, prompt: QUESTION });
  const [choice] = done.choices;
  return { content: choice.text, finish: choice.finish_reason, usage: counts(done.usage) };
}

async function completions_stream() {
  const request = { model: TEXT, prompt: QUESTION, stream: true };
  const chunks = await all(await client.completions.create(request));
  return {
    content: chunks.map((chunk) => chunk.choices[0].text).join(""),
    finish: chunks.at(-1).choices[0].finish_reason,
    usages: chunks.filter((chunk) => chunk.usage).length,
  };
}

async function responses() {
  const done = await client.responses.create({ model: TEXT, input: QUESTION });
  return { content: done.output_text, finish: done.status, usage: counts(done.usage) };
}

async function responses_stream() {
  const request = { model: TEXT, input: QUESTION, stream: true };
  const events = await all(await client.responses.create(request));
  const last = events.at(-1).response;
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  return {
    content: deltas.map((event) => event.delta).join(""),
    finish: last.status,
    usage: counts(last.usage),
    first: events[0].type,
    whole: last.output[0].content[0].text,
  };
}

async function responses_parse() {
  const properties = { city: { type: "string" }, days: { type: "integer" } };
  const schema = { type: "object", properties, required: ["city", "days"], additionalProperties: false };
  const format = { type: "json_schema", name: "trip", strict: true, schema };
  const input = "7 days in Paris";
  const done = await client.responses.parse({ model: TEXT, input, text: { format } });
  return JSON.parse(done.output_text);
}

async function responses_vision() {
  const image_url = `data:image/png;base64,${PNG.toString("base64")}`;
  const content = [
    { type: "input_text", text: "What is this?" },
    { type: "input_image", image_url, detail: "auto" },
  ];
  return (await client.responses.create({ model: TEXT, input: [{ role: "user", content }] })).output_text;
}

async function embeddings() {
  const done = await client.embeddings.create({ model: TEXT, input: ["a weir", "a dam"] });
  const request = { model: TEXT, input: "a weir", encoding_format: "float" };
  const plain = (await client.embeddings.create(request)).data[0].embedding;
  return {
    dimensions: done.data.map((item) => item.embedding.length),
    // The first came as base64, which the SDK asks for by itself.
    is_same: done.data[0].embedding.every((one, at) => Math.abs(one - plain[at]) < 1e-6),
    usage: counts(done.usage),
  };
}

async function moderations() {
  const done = await client.moderations.create({ model: TEXT, input: ["a weir", "a dam"] });
  return done.results.map((result) => result.flagged);
}

async function images() {
  const made = await client.images.generate({ n: 2, size: "1024x1024", ...CAT });
  const edited = await client.images.edit({ image: [await picture(), await picture()], ...CAT });
  const varied = await client.images.createVariation({ model: IMAGE, image: await picture() });
  const each = [made, edited, varied];
  return {
    png: each.flatMap((done) => done.data.map((item) => isPng(item.b64_json))),
    usage: each.map((done) => counts(done.usage)),
  };
}

async function images_stream() {
  const request = { stream: true, partial_images: 1, ...CAT };
  const made = await all(await client.images.generate(request));
  const image = await picture();
  const edited = await all(await client.images.edit({ image, stream: true, ...CAT }));
  const events = [...made, ...edited];
  return {
    types: events.map((event) => event.type),
    png: events.map((event) => isPng(event.b64_json)),
    usage: [counts(made.at(-1).usage), counts(edited.at(-1).usage)],
  };
}

async function transcriptions() {
  const request = { model: TEXT, file: await sound() };
  const done = await client.audio.transcriptions.create(request);
  return { content: done.text, usage: counts(done.usage) };
}

async function transcriptions_stream() {
  const request = { model: TEXT, file: await sound(), stream: true };
  const events = await all(await client.audio.transcriptions.create(request));
  const deltas = events.filter((event) => event.type === "transcript.text.delta");
  const last = events.at(-1);
  return {
    content: deltas.map((event) => event.delta).join(""),
    whole: last.text,
    usage: counts(last.usage),
  };
}

async function translations() {
  const request = { model: TEXT, file: await sound() };
  return (await client.audio.translations.create(request)).text;
}

async function speech() {
  const request = { model: TEXT, voice: "alloy", input: QUESTION };
  const said = Buffer.from(await (await client.audio.speech.create(request)).arrayBuffer());
  return { begins: said.subarray(0, 3).toString(), bytes: said.length };
}

await show({
  completions,
  completions_stream,
  responses,
  responses_stream,
  responses_parse,
  responses_vision,
  embeddings,
  moderations,
  images,
  images_stream,
  transcriptions,
  transcriptions_stream,
  translations,
  speech,
});
