"""What all scripts here begin and end with. `tests/it/sdk.rs` starts them and says what the
environment holds: WEIR_BASE_URL (with /v1), WEIR_KEY, WEIR_KEY_QUOTA (one request a day), WEIR_PNG
(a picture in base64) and WEIR_DIR (an empty directory).
"""

import json
import os

TEXT, IMAGE = "gpt-5.4", "gpt-5.4-image-2"
BASE_URL, KEY, KEY_QUOTA = (os.environ[f"WEIR_{name}"] for name in ("BASE_URL", "KEY", "KEY_QUOTA"))
KEY_WRONG = "sk-weir-" + "0" * 40
QUESTION = "Why is the sky blue?"
WEATHER = "What is the weather in Oslo?"


def failure(call):
    """What is raised: its classes, its HTTP status, and what it says."""
    try:
        call()
    except Exception as error:
        return {
            "classes": [kind.__name__ for kind in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "says": str(error),
        }
    return None


def show(*scenarios):
    """Runs them, and prints an object: scenario -> what it handed out."""
    print(json.dumps({scenario.__name__: scenario() for scenario in scenarios}))
