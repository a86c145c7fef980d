// What all scripts here begin and end with; `../python/common.py` says what the environment holds.

export const [TEXT, IMAGE] = ["gpt-5.4", "gpt-5.4-image-2"];
export const { WEIR_BASE_URL: BASE_URL, WEIR_KEY: KEY, WEIR_KEY_QUOTA: KEY_QUOTA } = process.env;
export const KEY_WRONG = "sk-weir-" + "0".repeat(40);
export const PNG = Buffer.from(process.env.WEIR_PNG, "base64");
export const QUESTION = "Why is the sky blue?";
export const WEATHER = "What is the weather in Oslo?";

/** What is raised: its classes, its HTTP status, and what it says. */
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    const classes = [];
    for (let at = Object.getPrototypeOf(error); at; at = Object.getPrototypeOf(at)) {
      classes.push(at.constructor.name);
    }
    return { classes, status: error.status ?? error.statusCode, says: error.message };
  }
  return null;
}

export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** Runs the scenarios, and prints an object: scenario -> what it handed out. */
export async function show(scenarios) {
  const results = {};
  for (const [name, run] of Object.entries(scenarios)) results[name] = await run();
  console.log(JSON.stringify(results));
}
