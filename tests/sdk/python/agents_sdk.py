"""OpenAI's Agents SDK, over chat and over its default, the Responses API."""

import asyncio
from contextlib import asynccontextmanager

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from common import BASE_URL, KEY, KEY_QUOTA, KEY_WRONG, QUESTION, TEXT, WEATHER, failure, show
from openai import AsyncOpenAI
from pydantic import BaseModel

# Traces would go to OpenAI.
set_tracing_disabled(True)


@asynccontextmanager
async def agent(kind=OpenAIChatCompletionsModel, key=KEY, **more):
    async with AsyncOpenAI(base_url=BASE_URL, api_key=key) as client:
        yield Agent(name="Weir", model=kind(model=TEXT, openai_client=client), **more)


def told(result):
    usage = result.context_wrapper.usage
    return {"content": result.final_output, "usage": [usage.input_tokens, usage.output_tokens]}


async def ask(**more):
    async with agent(**more) as asked:
        return told(await Runner.run(asked, QUESTION))


async def listen(kind):
    async with agent(kind) as asked:
        result, pieces = Runner.run_streamed(asked, QUESTION), 0
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                pieces += event.data.type == "response.output_text.delta"
        return {**told(result), "pieces": pieces}


async def call(kind):
    calls = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        calls.append({"name": "get_weather", "arguments": ["city"] if city else []})
        return "22 degrees"

    async with agent(kind, tools=[get_weather]) as asked:
        result = await Runner.run(asked, WEATHER)
        return {**calls[0], "answer": result.final_output}


def chat():
    return asyncio.run(ask(kind=OpenAIChatCompletionsModel))


def stream():
    return asyncio.run(listen(OpenAIChatCompletionsModel))


def tools():
    return asyncio.run(call(OpenAIChatCompletionsModel))


def responses():
    return asyncio.run(ask(kind=OpenAIResponsesModel))


def responses_stream():
    return asyncio.run(listen(OpenAIResponsesModel))


def responses_tools():
    return asyncio.run(call(OpenAIResponsesModel))


class Trip(BaseModel):
    city: str
    days: int


def output():
    """Its `output_type`, over both APIs."""

    async def plan(kind):
        async with agent(kind, output_type=Trip) as asked:
            return (await Runner.run(asked, "7 days in Paris")).final_output.model_dump()

    return [asyncio.run(plan(kind)) for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel)]


def errors():
    asyncio.run(ask(key=KEY_QUOTA))
    return {
        "key": failure(lambda: asyncio.run(ask(key=KEY_WRONG))),
        "quota": failure(lambda: asyncio.run(ask(key=KEY_QUOTA))),
    }


show(chat, stream, tools, responses, responses_stream, responses_tools, output, errors)
