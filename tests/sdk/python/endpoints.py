"""The official Python SDK on everything but chat. `../node/endpoints.mjs` prints the same."""

import base64
import os

from common import BASE_URL, IMAGE, KEY, QUESTION, TEXT, show
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=BASE_URL, api_key=KEY)
PNG = ("pixel.png", base64.b64decode(os.environ["WEIR_PNG"]), "image/png")
SOUND = ("speech.mp3", b"ID3" + bytes(4000), "audio/mpeg")
CAT = {"model": IMAGE, "prompt": "a cat on the moon"}


def counts(of):
    """Input and output, whatever this API calls them."""
    names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
    return [getattr(of, name) for name in names if getattr(of, name, None) is not None]


def is_png(text):
    return base64.b64decode(text, validate=True)[:8] == b"\x89PNG\r\n\x1a\n"


def is_near(one, other):
    return abs(one - other) < 1e-6


def completions():
    done = client.completions.create(model=TEXT, prompt=QUESTION)
    choice = done.choices[0]
    return {"content": choice.text, "finish": choice.finish_reason, "usage": counts(done.usage)}


def completions_stream():
    chunks = list(client.completions.create(model=TEXT, prompt=QUESTION, stream=True))
    return {
        "content": "".join(chunk.choices[0].text for chunk in chunks),
        "finish": chunks[-1].choices[0].finish_reason,
        "usages": sum(chunk.usage is not None for chunk in chunks),
    }


def responses():
    done = client.responses.create(model=TEXT, input=QUESTION)
    return {"content": done.output_text, "finish": done.status, "usage": counts(done.usage)}


def responses_stream():
    events = list(client.responses.create(model=TEXT, input=QUESTION, stream=True))
    last = events[-1].response
    return {
        "content": "".join(e.delta for e in events if e.type == "response.output_text.delta"),
        "finish": last.status,
        "usage": counts(last.usage),
        "first": events[0].type,
        "whole": last.output_text,
    }


class Trip(BaseModel):
    city: str
    days: int


def responses_parse():
    done = client.responses.parse(model=TEXT, input="7 days in Paris", text_format=Trip)
    return done.output_parsed.model_dump()


def responses_vision():
    url = "data:image/png;base64," + os.environ["WEIR_PNG"]
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
    return client.responses.create(model=TEXT, input=[{"role": "user", "content": parts}]).output_text


def embeddings():
    done = client.embeddings.create(model=TEXT, input=["a weir", "a dam"])
    plain = client.embeddings.create(model=TEXT, input="a weir", encoding_format="float")
    return {
        "dimensions": [len(item.embedding) for item in done.data],
        # The first came as base64, which the SDK asks for by itself.
        "is_same": all(map(is_near, done.data[0].embedding, plain.data[0].embedding)),
        "usage": counts(done.usage),
    }


def moderations():
    done = client.moderations.create(model=TEXT, input=["a weir", "a dam"])
    return [result.flagged for result in done.results]


def images():
    made = client.images.generate(n=2, size="1024x1024", **CAT)
    edited = client.images.edit(image=[PNG, PNG], **CAT)
    varied = client.images.create_variation(model=IMAGE, image=PNG)
    return {
        "png": [is_png(picture.b64_json) for done in (made, edited, varied) for picture in done.data],
        "usage": [counts(done.usage) for done in (made, edited, varied)],
    }


def images_stream():
    made = list(client.images.generate(stream=True, partial_images=1, **CAT))
    edited = list(client.images.edit(image=PNG, stream=True, **CAT))
    return {
        "types": [event.type for event in made + edited],
        "png": [is_png(event.b64_json) for event in made + edited],
        "usage": [counts(made[-1].usage), counts(edited[-1].usage)],
    }


def transcriptions():
    done = client.audio.transcriptions.create(model=TEXT, file=SOUND)
    return {"content": done.text, "usage": counts(done.usage)}


def transcriptions_stream():
    events = list(client.audio.transcriptions.create(model=TEXT, file=SOUND, stream=True))
    return {
        "content": "".join(e.delta for e in events if e.type == "transcript.text.delta"),
        "whole": events[-1].text,
        "usage": counts(events[-1].usage),
    }


def translations():
    return client.audio.translations.create(model=TEXT, file=SOUND).text


def speech():
    said = client.audio.speech.create(model=TEXT, voice="alloy", input=QUESTION).content
    return {"begins": said[:3].decode(), "bytes": len(said)}


if __name__ == "__main__":
    show(
        completions,
        completions_stream,
        responses,
        responses_stream,
        responses_parse,
        responses_vision,
        embeddings,
        moderations,
        images,
        images_stream,
        transcriptions,
        transcriptions_stream,
        translations,
        speech,
    )
