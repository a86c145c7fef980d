"""What users do with the official Python SDK, against the gateway named by the environment.

Prints one JSON object: scenario -> what the SDK handed out. `../node/scenarios.mjs` prints the same
for the Node SDK, and `tests/it/sdk.rs` says what both must be. Environment: WEIR_BASE_URL (with
/v1), WEIR_KEY, WEIR_KEY_RATE (one request at once, the next within two seconds), WEIR_KEY_QUOTA
(one request a day), WEIR_PNG (a picture in base64).
"""

import asyncio
import base64
import json
import os

import openai
from openai import AsyncOpenAI, OpenAI

TEXT, IMAGE = "gpt-5.4", "gpt-5.4-image-2"
BASE_URL, PNG = os.environ["WEIR_BASE_URL"], os.environ["WEIR_PNG"]

statuses = []


def connect(key=os.environ["WEIR_KEY"]):
    """A client that notes the status of every HTTP answer, retried ones too."""
    hooks = {"response": [lambda response: statuses.append(response.status_code)]}
    http_client = openai.DefaultHttpxClient(event_hooks=hooks)
    return OpenAI(base_url=BASE_URL, api_key=key, http_client=http_client)


client = connect()


def user(content):
    return [{"role": "user", "content": content}]


def usage(of):
    return of and [of.prompt_tokens, of.completion_tokens, of.total_tokens]


def chat():
    done = client.chat.completions.create(model=TEXT, messages=user("Why is the sky blue?"))
    return {
        "content": done.choices[0].message.content,
        "finish_reason": done.choices[0].finish_reason,
        "model": done.model,
        "usage": usage(done.usage),
        "request_id": done._request_id,
    }


def read(stream):
    chunks = list(stream)
    return {
        "content": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
        "chunks": len(chunks),
        "without_choices": sum(not c.choices for c in chunks),
        "naming_usage": sum("usage" in c.model_fields_set for c in chunks),
        "usages": [usage(c.usage) for c in chunks if c.usage],
        "finish_reason": [c.choices[0].finish_reason for c in chunks if c.choices][-1],
    }


def stream(**options):
    question = user("Why is the sky blue?")
    return read(
        client.chat.completions.create(model=TEXT, messages=question, stream=True, **options)
    )


def stream_with_usage():
    return stream(stream_options={"include_usage": True})


def stream_refusing_usage():
    return stream(stream_options={"include_usage": False})


def tools():
    def function(name):
        city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        return {"type": "function", "function": {"name": name, "parameters": city}}

    offered = [function("get_time"), function("get_weather")]
    messages = user("What is the weather in Oslo?")
    choices = {
        "auto": "auto",
        "required": "required",
        "named": {"type": "function", "function": {"name": "get_time"}},
    }
    result = {}
    for name, choice in choices.items():
        done = client.chat.completions.create(
            model=TEXT, messages=messages, tools=offered, tool_choice=choice
        )
        call = done.choices[0].message.tool_calls[0]
        result[name] = {
            "name": call.function.name,
            "arguments": sorted(json.loads(call.function.arguments)),
            "finish_reason": done.choices[0].finish_reason,
        }
    streamed = client.chat.completions.create(
        model=TEXT, messages=messages, tools=offered, stream=True
    )
    calls = [c.choices[0].delta.tool_calls[0] for c in streamed if c.choices[0].delta.tool_calls]
    result["streamed"] = {
        "name": calls[0].function.name,
        "arguments": sorted(json.loads("".join(c.function.arguments or "" for c in calls))),
    }
    messages += [
        done.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"},
    ]
    done = client.chat.completions.create(model=TEXT, messages=messages, tools=offered)
    result["second_round"] = done.choices[0].message.content
    return result


def vision():
    url = f"data:image/png;base64,{PNG}"
    parts = {
        "image_url": {"type": "image_url", "image_url": {"url": url}},
        "document": {"type": "image", "image": url},
    }
    return {
        name: client.chat.completions.create(
            model=TEXT, messages=user([{"type": "text", "text": "What is this?"}, part])
        )
        .choices[0]
        .message.content
        for name, part in parts.items()
    }


def json_mode():
    done = client.chat.completions.create(
        model=TEXT,
        messages=user("Return an object."),
        response_format={"type": "json_object"},
    )
    return {"is_object": isinstance(json.loads(done.choices[0].message.content), dict)}


def is_png(text):
    return base64.b64decode(text, validate=True)[:8] == b"\x89PNG\r\n\x1a\n"


def images():
    done = client.chat.completions.create(
        model=IMAGE, messages=user("a cat on the moon"), n=2, extra_body={"size": "1024x1536"}
    )
    contents = [choice.message.content for choice in done.choices]
    streamed = client.chat.completions.create(
        model=IMAGE, messages=user("a cat on the moon"), stream=True
    )
    deltas = [c.choices[0].delta for c in streamed]
    pictures = [d.image_base64 for d in deltas if getattr(d, "image_base64", None)]
    return {
        "types": [[part["type"] for part in content] for content in contents],
        "png": [is_png(content[0]["image_base64"]) for content in contents],
        "completion_tokens": done.usage.completion_tokens,
        "streamed_png": [is_png(picture) for picture in pictures],
    }


def failure(call):
    statuses.clear()
    try:
        call()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "request_id": error.request_id,
            "origin": error.response.headers.get("x-weir-origin"),
            "statuses": list(statuses),
        }
    return None


def errors():
    create = client.chat.completions.create
    hello = user("Hello")
    bad = connect("sk-weir-" + "0" * 40)
    return {
        "key": failure(lambda: bad.chat.completions.create(model=TEXT, messages=hello)),
        "parameter": failure(lambda: create(model=TEXT, messages=hello, temperature=9)),
        "our_parameter": failure(
            lambda: create(model=TEXT, messages=hello, extra_body={"max_completion_tokens": "x"})
        ),
        "image": failure(
            lambda: create(
                model=TEXT, messages=hello, extra_headers={"x-sim-error": "invalid_image"}
            )
        ),
        "model": failure(lambda: create(model="gpt-9", messages=hello)),
        "large": failure(lambda: create(model=TEXT, messages=user("x" * 2_000_000))),
    }


def retries():
    def outcome(call):
        statuses.clear()
        return {"content": call().choices[0].message.content, "statuses": list(statuses)}

    hello = {"model": TEXT, "messages": user("Hello")}
    upstream = outcome(
        lambda: client.chat.completions.create(extra_headers={"x-sim-error": "429:2"}, **hello)
    )
    rate, quota = connect(os.environ["WEIR_KEY_RATE"]), connect(os.environ["WEIR_KEY_QUOTA"])
    # The first one that has to wait: on a busy machine that need not be the second.
    for _ in range(20):
        ours = outcome(lambda: rate.chat.completions.create(**hello))
        if ours["statuses"] != [200]:
            break
    quota.chat.completions.create(**hello)
    exhausted = failure(lambda: quota.chat.completions.create(**hello))
    return {"upstream": upstream, "ours": ours, "quota": exhausted}


def models():
    return {
        "list": [model.id for model in client.models.list()],
        "one": client.models.retrieve(IMAGE).id,
        "unknown": failure(lambda: client.models.retrieve("gpt-9")),
    }


def concurrent():
    async def ask(client, n):
        if n % 2:
            done = await client.chat.completions.create(model=TEXT, messages=user(f"Say {n}"))
            return done.choices[0].message.content
        streamed = await client.chat.completions.create(
            model=TEXT, messages=user(f"Say {n}"), stream=True
        )
        return "".join([c.choices[0].delta.content or "" async for c in streamed])

    async def all_of_them():
        async with AsyncOpenAI(base_url=BASE_URL, api_key=os.environ["WEIR_KEY"]) as client:
            return await asyncio.gather(*(ask(client, n) for n in range(8)))

    return asyncio.run(all_of_them())


def abort():
    slow = {"x-sim-interval-ms": "20", "x-sim-tokens": "100000"}
    streamed = client.chat.completions.create(
        model=TEXT, messages=user("Count."), stream=True, extra_headers=slow
    )
    contents = []
    for chunk in streamed:
        contents.append(chunk.choices[0].delta.content)
        if len(contents) == 4:
            break
    streamed.close()
    return {"chunks": len(contents)}


SCENARIOS = [
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
]
print(json.dumps({scenario.__name__: scenario() for scenario in SCENARIOS}))
