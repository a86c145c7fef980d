"""Pydantic AI, over chat and over the Responses API."""

import asyncio

from common import BASE_URL, KEY, KEY_QUOTA, KEY_WRONG, QUESTION, TEXT, WEATHER, failure, show
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(kind=OpenAIChatModel, key=KEY, **more):
    provider = OpenAIProvider(base_url=BASE_URL, api_key=key)
    return Agent(kind(TEXT, provider=provider), **more)


def counts(result):
    usage = result.usage
    usage = usage() if callable(usage) else usage
    return [usage.input_tokens, usage.output_tokens]


def ask(**more):
    result = asyncio.run(agent(**more).run(QUESTION))
    return {"content": result.output, "usage": counts(result)}


def listen(kind):
    async def heard():
        pieces = []
        async with agent(kind).run_stream(QUESTION) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                pieces.append(piece)
            return {"content": "".join(pieces), "usage": counts(result), "pieces": len(pieces)}

    return asyncio.run(heard())


def call(kind):
    calls = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        calls.append({"name": "get_weather", "arguments": ["city"] if city else []})
        return "22 degrees"

    result = asyncio.run(agent(kind, tools=[get_weather]).run(WEATHER))
    return {**calls[0], "answer": result.output}


def chat():
    return ask()


def stream():
    return listen(OpenAIChatModel)


def tools():
    return call(OpenAIChatModel)


def responses():
    return ask(kind=OpenAIResponsesModel)


def responses_stream():
    return listen(OpenAIResponsesModel)


def responses_tools():
    return call(OpenAIResponsesModel)


class Trip(BaseModel):
    city: str
    days: int


def output():
    """Its `output_type`, over both APIs; it asks for it by a tool that has to be called."""
    kinds = (OpenAIChatModel, OpenAIResponsesModel)
    runs = [agent(kind, output_type=Trip).run("7 days in Paris") for kind in kinds]
    return [asyncio.run(run).output.model_dump() for run in runs]


def errors():
    ask(key=KEY_QUOTA)
    return {
        "key": failure(lambda: ask(key=KEY_WRONG)),
        "quota": failure(lambda: ask(key=KEY_QUOTA)),
    }


show(chat, stream, tools, responses, responses_stream, responses_tools, output, errors)
