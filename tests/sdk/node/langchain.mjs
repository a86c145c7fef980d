// LangChain; prints the same as `../python/langchain_sdk.py`.

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
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

const configuration = { baseURL: BASE_URL };
const connect = (apiKey = KEY, more = {}) =>
  new ChatOpenAI({ model: TEXT, apiKey, configuration, ...more });

function told(message) {
  const usage = message.usage_metadata;
  return { content: message.text, usage: usage ? [usage.input_tokens, usage.output_tokens] : null };
}

/** The pieces that are no empty ones, and their sum as LangChain makes it. */
async function heard(model) {
  let whole;
  let pieces = 0;
  for await (const chunk of await model.stream(QUESTION)) {
    whole = whole ? whole.concat(chunk) : chunk;
    pieces += chunk.text !== "";
  }
  return { ...told(whole), pieces };
}

const chat = async () => told(await connect().invoke(QUESTION));
const stream = () => heard(connect(KEY, { streamUsage: false }));
const stream_with_usage = () => heard(connect());
const responses = async () => told(await connect(KEY, { useResponsesApi: true }).invoke(QUESTION));
const responses_stream = () => heard(connect(KEY, { useResponsesApi: true }));

async function tools() {
  const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const description = "The weather in a city.";
  const weather = tool(() => "22 degrees", { name: "get_weather", description, schema });
  const model = connect().bindTools([weather]);
  const messages = [new HumanMessage(WEATHER)];
  const message = await model.invoke(messages);
  const [call] = message.tool_calls;
  const content = await weather.invoke(call.args);
  messages.push(message, new ToolMessage({ content, tool_call_id: call.id }));
  return {
    name: call.name,
    arguments: Object.keys(call.args).sort(),
    answer: (await model.invoke(messages)).text,
  };
}

async function embeddings() {
  const model = new OpenAIEmbeddings({ model: TEXT, apiKey: KEY, configuration });
  const vectors = await model.embedDocuments(["a weir", "a dam"]);
  return vectors.map((vector) => vector.length);
}

async function errors() {
  const poor = connect(KEY_QUOTA);
  await poor.invoke(QUESTION);
  return {
    key: await failure(() => connect(KEY_WRONG).invoke(QUESTION)),
    quota: await failure(() => poor.invoke(QUESTION)),
  };
}

await show({
  chat,
  stream,
  stream_with_usage,
  responses,
  responses_stream,
  tools,
  embeddings,
  errors,
});
