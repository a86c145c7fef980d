// The AI SDK with its provider for OpenAI, over chat and over its default, the Responses API, and with
// the provider for whatever is compatible.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  embedMany,
  experimental_generateSpeech as generateSpeech,
  experimental_transcribe as transcribe,
  generateImage,
  generateText,
  jsonSchema,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import {
  BASE_URL,
  IMAGE,
  KEY,
  KEY_QUOTA,
  KEY_WRONG,
  QUESTION,
  TEXT,
  WEATHER,
  all,
  failure,
  show,
} from "./common.mjs";

const connect = (apiKey) => createOpenAI({ baseURL: BASE_URL, apiKey });
const openai = connect(KEY);
const compatible = createOpenAICompatible({ name: "weir", baseURL: BASE_URL, apiKey: KEY });

const counts = (usage) =>
  usage.outputTokens === undefined ? null : [usage.inputTokens, usage.outputTokens];

async function said(model) {
  const done = await generateText({ model, prompt: QUESTION });
  return { content: done.text, finish: done.finishReason, usage: counts(done.usage) };
}

async function heard(model) {
  const errors = [];
  const onError = ({ error }) => errors.push(String(error));
  const stream = streamText({ model, prompt: QUESTION, onError });
  const pieces = await all(stream.textStream);
  return {
    content: pieces.join(""),
    pieces: pieces.length,
    finish: await stream.finishReason,
    usage: counts(await stream.usage),
    errors,
  };
}

/** A round with a tool, streamed: the SDK runs it and asks again by itself. */
async function called(model) {
  const calls = [];
  const weather = tool({
    description: "The weather in a city.",
    inputSchema: jsonSchema({
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    }),
    execute: (input) => {
      calls.push({ name: "get_weather", arguments: Object.keys(input).sort() });
      return "22 degrees";
    },
  });
  const tools = { get_weather: weather };
  const stopWhen = stepCountIs(3);
  const stream = streamText({ model, prompt: WEATHER, tools, stopWhen, onError: () => {} });
  const streamed = await stream.text;
  const done = await generateText({ model, prompt: WEATHER, tools, stopWhen });
  return { ...calls[0], calls: calls.length, answer: done.text, streamed };
}

const isPng = (bytes) =>
  Buffer.from(bytes).subarray(0, 8).equals(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"));

async function images() {
  const prompt = "a cat on the moon";
  const made = await generateImage({ model: openai.image(IMAGE), prompt });
  const also = await generateImage({ model: compatible.imageModel(IMAGE), prompt });
  return [made, also].flatMap((done) => done.images.map((image) => isPng(image.uint8Array)));
}

async function embeddings() {
  const values = ["a weir", "a dam"];
  const models = [openai.embedding(TEXT), compatible.embeddingModel(TEXT)];
  const done = await Promise.all(models.map((model) => embedMany({ model, values })));
  return done.flatMap((result) => result.embeddings.map((vector) => vector.length));
}

async function sound() {
  const model = openai.speech(TEXT);
  const { audio } = await generateSpeech({ model, text: QUESTION, voice: "alloy" });
  const heard = await transcribe({ model: openai.transcription(TEXT), audio: audio.uint8Array });
  return { begins: Buffer.from(audio.uint8Array.subarray(0, 3)).toString(), heard: heard.text };
}

async function errors() {
  // It would retry whatever is 429, whatever the answer says of that.
  const ask = (key) =>
    generateText({ model: connect(key).chat(TEXT), prompt: QUESTION, maxRetries: 0 });
  await ask(KEY_QUOTA);
  return { key: await failure(() => ask(KEY_WRONG)), quota: await failure(() => ask(KEY_QUOTA)) };
}

await show({
  chat: () => said(openai.chat(TEXT)),
  stream: () => heard(openai.chat(TEXT)),
  tools: () => called(openai.chat(TEXT)),
  responses: () => said(openai(TEXT)),
  responses_stream: () => heard(openai(TEXT)),
  responses_tools: () => called(openai(TEXT)),
  compatible: () => said(compatible(TEXT)),
  compatible_stream: () => heard(compatible(TEXT)),
  compatible_tools: () => called(compatible(TEXT)),
  completion: () => said(openai.completion(TEXT)),
  completion_stream: () => heard(openai.completion(TEXT)),
  embeddings,
  images,
  sound,
  errors,
});
