// What users do with the official Node SDK, against the gateway named by the environment. Prints
// the same JSON object as `../python/scenarios.py`, which says what the environment has to hold. The
// argument is the name under which the SDK is installed, as there are two versions of it.

const { default: OpenAI } = await import(process.argv[2] ?? "openai");
const TEXT = "gpt-5.4";
const IMAGE = "gpt-5.4-image-2";
const { WEIR_BASE_URL, WEIR_KEY, WEIR_KEY_RATE, WEIR_KEY_QUOTA, WEIR_PNG } = process.env;

const statuses = [];

/** A client that notes the status of every HTTP answer, retried ones too. */
function connect(apiKey) {
  const noting = async (...request) => {
    const response = await fetch(...request);
    statuses.push(response.status);
    return response;
  };
  return new OpenAI({ baseURL: WEIR_BASE_URL, apiKey, fetch: noting });
}

const client = connect(WEIR_KEY);
const completions = client.chat.completions;

const user = (content) => [{ role: "user", content }];
const usage = (of) => of && [of.prompt_tokens, of.completion_tokens, of.total_tokens];

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function chat() {
  const done = await completions.create({ model: TEXT, messages: user("Why is the sky blue?") });
  return {
    content: done.choices[0].message.content,
    finish_reason: done.choices[0].finish_reason,
    model: done.model,
    usage: usage(done.usage),
    request_id: done._request_id,
  };
}

async function stream(options = {}) {
  const messages = user("Why is the sky blue?");
  const chunks = await all(
    await completions.create({ model: TEXT, messages, stream: true, ...options }),
  );
  const choices = chunks.flatMap((chunk) => chunk.choices);
  return {
    content: choices.map((choice) => choice.delta.content ?? "").join(""),
    chunks: chunks.length,
    without_choices: chunks.filter((chunk) => chunk.choices.length === 0).length,
    naming_usage: chunks.filter((chunk) => "usage" in chunk).length,
    usages: chunks.filter((chunk) => chunk.usage).map((chunk) => usage(chunk.usage)),
    finish_reason: choices.at(-1).finish_reason,
  };
}

const stream_with_usage = () => stream({ stream_options: { include_usage: true } });
const stream_refusing_usage = () => stream({ stream_options: { include_usage: false } });

async function tools() {
  const parameters = {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  };
  const offered = ["get_time", "get_weather"].map((name) => ({
    type: "function",
    function: { name, parameters },
  }));
  const messages = user("What is the weather in Oslo?");
  const choices = {
    auto: "auto",
    required: "required",
    named: { type: "function", function: { name: "get_time" } },
  };
  const keys = (text) => Object.keys(JSON.parse(text)).sort();
  const result = {};
  let message;
  for (const [name, tool_choice] of Object.entries(choices)) {
    const done = await completions.create({ model: TEXT, messages, tools: offered, tool_choice });
    message = done.choices[0].message;
    const call = message.tool_calls[0].function;
    const finish_reason = done.choices[0].finish_reason;
    result[name] = { name: call.name, arguments: keys(call.arguments), finish_reason };
  }
  const request = { model: TEXT, messages, tools: offered, stream: true };
  const chunks = await all(await completions.create(request));
  const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  result.streamed = {
    name: calls[0].function.name,
    arguments: keys(calls.map((call) => call.function.arguments ?? "").join("")),
  };
  const tool_call_id = message.tool_calls[0].id;
  const round = [...messages, message, { role: "tool", tool_call_id, content: "22 degrees" }];
  const done = await completions.create({ model: TEXT, messages: round, tools: offered });
  result.second_round = done.choices[0].message.content;
  return result;
}

async function vision() {
  const url = `data:image/png;base64,${WEIR_PNG}`;
  const parts = {
    image_url: { type: "image_url", image_url: { url } },
    document: { type: "image", image: url },
  };
  const result = {};
  for (const [name, part] of Object.entries(parts)) {
    const messages = user([{ type: "text", text: "What is this?" }, part]);
    const done = await completions.create({ model: TEXT, messages });
    result[name] = done.choices[0].message.content;
  }
  return result;
}

async function json_mode() {
  const done = await completions.create({
    model: TEXT,
    messages: user("Return an object."),
    response_format: { type: "json_object" },
  });
  const parsed = JSON.parse(done.choices[0].message.content);
  return { is_object: typeof parsed === "object" && parsed !== null };
}

const isPng = (text) =>
  Buffer.from(text, "base64").subarray(0, 8).equals(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"));

async function images() {
  const messages = user("a cat on the moon");
  const done = await completions.create({ model: IMAGE, messages, n: 2, size: "1024x1536" });
  const contents = done.choices.map((choice) => choice.message.content);
  const chunks = await all(await completions.create({ model: IMAGE, messages, stream: true }));
  const pictures = chunks.map((chunk) => chunk.choices[0].delta.image_base64).filter(Boolean);
  return {
    types: contents.map((content) => content.map((part) => part.type)),
    png: contents.map((content) => isPng(content[0].image_base64)),
    completion_tokens: done.usage.completion_tokens,
    streamed_png: pictures.map(isPng),
  };
}

async function failure(call) {
  statuses.length = 0;
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return {
      class: error.constructor.name,
      status: error.status,
      code: error.code,
      type: error.type,
      request_id: error.requestID,
      origin: error.headers.get("x-weir-origin"),
      statuses: [...statuses],
    };
  }
  return null;
}

async function errors() {
  const messages = user("Hello");
  const create = (changes, options) => () =>
    completions.create({ model: TEXT, messages, ...changes }, options);
  const bad = connect("sk-weir-" + "0".repeat(40));
  return {
    key: await failure(() => bad.chat.completions.create({ model: TEXT, messages })),
    parameter: await failure(create({ temperature: 9 })),
    our_parameter: await failure(create({ max_completion_tokens: "x" })),
    image: await failure(create({}, { headers: { "x-sim-error": "invalid_image" } })),
    model: await failure(create({ model: "gpt-9" })),
    large: await failure(create({ messages: user("x".repeat(2_000_000)) })),
  };
}

async function retries() {
  const hello = { model: TEXT, messages: user("Hello") };
  const outcome = async (call) => {
    statuses.length = 0;
    const done = await call();
    return { content: done.choices[0].message.content, statuses: [...statuses] };
  };
  const upstream = await outcome(() =>
    completions.create(hello, { headers: { "x-sim-error": "429:2" } }),
  );
  const [rate, quota] = [connect(WEIR_KEY_RATE), connect(WEIR_KEY_QUOTA)];
  // The first one that has to wait: on a busy machine that need not be the second.
  let ours;
  for (let n = 0; n < 20; n += 1) {
    ours = await outcome(() => rate.chat.completions.create(hello));
    if (ours.statuses.length > 1) break;
  }
  await quota.chat.completions.create(hello);
  const exhausted = await failure(() => quota.chat.completions.create(hello));
  return { upstream, ours, quota: exhausted };
}

async function models() {
  const list = await all(await client.models.list());
  return {
    list: list.map((model) => model.id),
    one: (await client.models.retrieve(IMAGE)).id,
    unknown: await failure(() => client.models.retrieve("gpt-9")),
  };
}

async function concurrent() {
  const ask = async (_, n) => {
    const request = { model: TEXT, messages: user(`Say ${n}`) };
    if (n % 2) return (await completions.create(request)).choices[0].message.content;
    const chunks = await all(await completions.create({ ...request, stream: true }));
    return chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  };
  return Promise.all(Array.from({ length: 8 }, ask));
}

async function abort() {
  const request = { model: TEXT, messages: user("Count."), stream: true };
  const headers = { "x-sim-interval-ms": "20", "x-sim-tokens": "100000" };
  const stream = await completions.create(request, { headers });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 4) break;
  }
  return { chunks };
}

const scenarios = {
  chat,
  stream,
  stream_with_usage,
  stream_refusing_usage,
  tools,
  vision,
  json_mode,
  images,
  errors,
  retries,
  models,
  concurrent,
  abort,
};
const results = {};
for (const [name, run] of Object.entries(scenarios)) results[name] = await run();
console.log(JSON.stringify(results));
