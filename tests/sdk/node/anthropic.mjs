// Anthropic's SDK, which has its key in `x-api-key`; prints the same as `../python/anthropic_sdk.py`.

import Anthropic from "@anthropic-ai/sdk";
import { jsonSchemaOutputFormat } from "@anthropic-ai/sdk/helpers/json-schema";
import {
  BASE_URL,
  KEY,
  KEY_QUOTA,
  KEY_WRONG,
  QUESTION,
  TEXT,
  WEATHER,
  failure,
  show,
} from "./common.mjs";

const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER_TOOL = { name: "get_weather", description: "The weather", input_schema: CITY };

/** The SDK appends /v1 by itself. */
const connect = (apiKey) => new Anthropic({ baseURL: BASE_URL.replace(/\/v1$/, ""), apiKey });
const client = connect(KEY);

const ask = (content, more = {}) => ({
  model: TEXT,
  max_tokens: 400,
  messages: [{ role: "user", content }],
  ...more,
});
const counts = (usage) => [usage.input_tokens, usage.output_tokens];

async function chat() {
  const done = await client.messages.create(ask(QUESTION));
  const { response } = await client.messages.create(ask(QUESTION)).withResponse();
  return {
    content: done.content[0].text,
    finish: done.stop_reason,
    usage: counts(done.usage),
    request_id: response.headers.get("x-request-id"),
  };
}

async function stream() {
  const events = client.messages.stream(ask(QUESTION));
  const pieces = [];
  events.on("text", (text) => pieces.push(text));
  const last = await events.finalMessage();
  return {
    content: pieces.join(""),
    pieces: pieces.length,
    finish: last.stop_reason,
    usage: counts(last.usage),
  };
}

async function tools() {
  const request = ask(WEATHER, { tools: [WEATHER_TOOL] });
  const done = await client.messages.create(request);
  const call = done.content.at(-1);
  const events = client.messages.stream(request);
  const fragments = [];
  events.on("inputJson", (fragment) => fragments.push(fragment));
  const streamed = (await events.finalMessage()).content.at(-1);
  const texts = [streamed.input, call.input].map((input) => JSON.stringify(input));
  const result = { type: "tool_result", tool_use_id: call.id, content: "22 degrees" };
  request.messages.push({ role: "assistant", content: done.content });
  request.messages.push({ role: "user", content: [result] });
  return {
    name: call.name,
    arguments: Object.keys(call.input).sort(),
    finish: done.stop_reason,
    is_same_streamed: texts.every((text) => text === fragments.join("")),
    answer: (await client.messages.create(request)).content[0].text,
  };
}

async function parse() {
  const properties = { city: { type: "string" }, days: { type: "integer" } };
  const schema = { type: "object", properties, required: ["city", "days"], additionalProperties: false };
  const output_config = { format: jsonSchemaOutputFormat(schema) };
  return (await client.messages.parse(ask("7 days in Paris", { output_config }))).parsed_output;
}

async function models() {
  const found = [];
  for await (const model of client.models.list({ limit: 1 })) found.push([model.type, model.id]);
  return found;
}

async function count() {
  const messages = [{ role: "user", content: QUESTION }];
  return (await client.messages.countTokens({ model: TEXT, messages })).input_tokens;
}

async function errors() {
  const poor = connect(KEY_QUOTA);
  await poor.messages.create(ask(QUESTION));
  return {
    key: await failure(() => connect(KEY_WRONG).messages.create(ask(QUESTION))),
    quota: await failure(() => poor.messages.create(ask(QUESTION))),
    model: await failure(() => client.messages.create(ask(QUESTION, { model: "claude-9" }))),
  };
}

async function abort() {
  const headers = { "x-sim-interval-ms": "20", "x-sim-tokens": "100000" };
  const request = ask("Count.", { max_tokens: 100_000, stream: true });
  let pieces = 0;
  for await (const event of await client.messages.create(request, { headers })) {
    pieces += event.type === "content_block_delta";
    if (pieces === 4) break;
  }
  return { pieces };
}

await show({ chat, stream, tools, parse, models, count, errors, abort });
