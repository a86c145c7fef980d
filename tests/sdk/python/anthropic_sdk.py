"""Anthropic's SDK, which has its key in `x-api-key`. `../node/anthropic.mjs` prints the same."""

import json

import anthropic
import pydantic
from common import BASE_URL, KEY, KEY_QUOTA, KEY_WRONG, QUESTION, TEXT, WEATHER, failure, show

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER_TOOL = {"name": "get_weather", "description": "The weather", "input_schema": CITY}


def connect(key):
    # The SDK appends /v1 by itself.
    return anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key=key)


client = connect(KEY)


def ask(text, **more):
    return {"model": TEXT, "max_tokens": 400, "messages": [{"role": "user", "content": text}], **more}


def counts(usage):
    return [usage.input_tokens, usage.output_tokens]


def chat():
    done = client.messages.create(**ask(QUESTION))
    return {
        "content": done.content[0].text,
        "finish": done.stop_reason,
        "usage": counts(done.usage),
        "request_id": client.messages.with_raw_response.create(**ask(QUESTION)).headers["x-request-id"],
    }


def stream():
    with client.messages.stream(**ask(QUESTION)) as events:
        pieces = list(events.text_stream)
        last = events.get_final_message()
    return {
        "content": "".join(pieces),
        "pieces": len(pieces),
        "finish": last.stop_reason,
        "usage": counts(last.usage),
    }


def tools():
    request = ask(WEATHER, tools=[WEATHER_TOOL])
    done = client.messages.create(**request)
    call = done.content[-1]
    with client.messages.stream(**request) as events:
        fragments = [event.partial_json for event in events if event.type == "input_json"]
        streamed = events.get_final_message().content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}
    request["messages"] += [
        {"role": "assistant", "content": done.content},
        {"role": "user", "content": [result]},
    ]
    return {
        "name": call.name,
        "arguments": sorted(call.input),
        "finish": done.stop_reason,
        "is_same_streamed": streamed.input == call.input == json.loads("".join(fragments)),
        "answer": client.messages.create(**request).content[0].text,
    }


class Trip(pydantic.BaseModel):
    city: str
    days: int


def parse():
    done = client.messages.parse(**ask("7 days in Paris"), output_format=Trip)
    return done.parsed_output.model_dump()


def models():
    # Page by page, as the SDK turns them.
    return [[model.type, model.id] for model in client.models.list(limit=1)]


def count():
    counted = client.messages.count_tokens(model=TEXT, messages=[{"role": "user", "content": QUESTION}])
    return counted.input_tokens


def errors():
    poor = connect(KEY_QUOTA)
    poor.messages.create(**ask(QUESTION))
    return {
        "key": failure(lambda: connect(KEY_WRONG).messages.create(**ask(QUESTION))),
        "quota": failure(lambda: poor.messages.create(**ask(QUESTION))),
        "model": failure(lambda: client.messages.create(**{**ask(QUESTION), "model": "claude-9"})),
    }


def abort():
    slow = {"x-sim-interval-ms": "20", "x-sim-tokens": "100000"}
    request = {**ask("Count."), "max_tokens": 100_000}
    seen = 0
    with client.messages.stream(**request, extra_headers=slow) as events:
        for _ in events.text_stream:
            seen += 1
            if seen == 4:
                break
    return {"pieces": seen}


show(chat, stream, tools, parse, models, count, errors, abort)
