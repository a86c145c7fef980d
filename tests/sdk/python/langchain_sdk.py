"""LangChain. `../node/langchain.mjs` prints the same."""

from common import BASE_URL, KEY, KEY_QUOTA, KEY_WRONG, QUESTION, TEXT, WEATHER, failure, show
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def connect(key=KEY, **more):
    return ChatOpenAI(model=TEXT, base_url=BASE_URL, api_key=key, **more)


def counts(message):
    usage = message.usage_metadata
    return usage and [usage["input_tokens"], usage["output_tokens"]]


def told(message):
    return {"content": message.text, "usage": counts(message)}


def heard(model):
    """The pieces that are no empty ones, and their sum as LangChain makes it."""
    whole, pieces = None, 0
    for chunk in model.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
        pieces += bool(chunk.text)
    return {**told(whole), "pieces": pieces}


def chat():
    return told(connect().invoke(QUESTION))


def stream():
    return heard(connect())


def stream_with_usage():
    return heard(connect(stream_usage=True))


def responses():
    return told(connect(use_responses_api=True).invoke(QUESTION))


def responses_stream():
    return heard(connect(use_responses_api=True))


def tools():
    @tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return "22 degrees"

    model = connect().bind_tools([get_weather])
    messages = [HumanMessage(WEATHER)]
    message = model.invoke(messages)
    call = message.tool_calls[0]
    messages += [message, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    return {
        "name": call["name"],
        "arguments": sorted(call["args"]),
        "answer": model.invoke(messages).text,
    }


def embeddings():
    # Without this it would count tokens with a vocabulary that it fetches.
    options = {"check_embedding_ctx_length": False}
    model = OpenAIEmbeddings(model=TEXT, base_url=BASE_URL, api_key=KEY, **options)
    return [len(vector) for vector in model.embed_documents(["a weir", "a dam"])]


def errors():
    poor = connect(KEY_QUOTA)
    poor.invoke(QUESTION)
    return {
        "key": failure(lambda: connect(KEY_WRONG).invoke(QUESTION)),
        "quota": failure(lambda: poor.invoke(QUESTION)),
    }


show(chat, stream, stream_with_usage, responses, responses_stream, tools, embeddings, errors)
