"""The Python side of `llm`, with its models configured as its users do."""

import json
import os
from pathlib import Path

from common import BASE_URL, KEY, KEY_QUOTA, KEY_WRONG, QUESTION, TEXT, WEATHER, failure, show

os.environ["LLM_USER_PATH"] = os.environ["WEIR_DIR"]
OURS = {
    "model_name": TEXT,
    "api_base": BASE_URL,
    "api_key_name": "weir",
    "supports_tools": True,
}
MODELS = [
    {"model_id": "weir", **OURS},
    {"model_id": "weir-responses", "responses": True, **OURS},
]
# JSON is YAML.
Path(os.environ["WEIR_DIR"], "extra-openai-models.yaml").write_text(json.dumps(MODELS))

import llm  # noqa: E402


def told(response):
    pieces = list(response)
    usage = response.usage()
    return {
        "content": "".join(pieces),
        "pieces": len(pieces),
        "usage": [usage.input, usage.output],
    }


def ask(model="weir", **more):
    return llm.get_model(model).prompt(QUESTION, key=KEY, **more)


def chat():
    return told(ask(stream=False))


def stream():
    return told(ask())


def responses():
    return told(ask("weir-responses", stream=False))


def responses_stream():
    return told(ask("weir-responses"))


def tools():
    calls = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        calls.append({"name": "get_weather", "arguments": ["city"] if city else []})
        return "22 degrees"

    chain = llm.get_model("weir").chain(WEATHER, tools=[get_weather], key=KEY)
    return {"answer": [response.text() for response in chain.responses()][-1], **calls[0]}


def errors():
    def with_key(key):
        return llm.get_model("weir").prompt(QUESTION, key=key).text()

    with_key(KEY_QUOTA)
    return {"key": failure(lambda: with_key(KEY_WRONG)), "quota": failure(lambda: with_key(KEY_QUOTA))}


show(chat, stream, responses, responses_stream, tools, errors)
