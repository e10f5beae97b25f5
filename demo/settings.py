"""What the operator sets through environment variables, checked before anything is loaded."""

import os
from dataclasses import dataclass
from pathlib import Path


DEFAULT_MODEL = str(Path(__file__).resolve().parents[1] / "model")


@dataclass(frozen=True)
class Settings:
    """Environment variables:

    MODEL_ID            a Hub id, or a folder shaped like model/ (default: the model/ beside app.py)
    MODEL_REVISION      a branch, tag or commit of that Hub id
    MAX_PICTURE_MB      largest upload in megabytes (20)
    MAX_PICTURES        most pictures in one go (20)
    QUEUE_SIZE          requests that may wait; further ones are told that the demo is busy (50)
    CONCURRENCY         predictions that run at the same time (2)
    WEBCAM_VIEWERS      live webcams at the same time (4)
    WEBCAM_SECONDS      how long a live webcam may run (120)
    KEEP_SECONDS        after which uploaded and drawn pictures are deleted (600)
    DEMO_AUTH           name:password, with commas between several; unset leaves the demo open
    GRADIO_SERVER_NAME, GRADIO_SERVER_PORT, GRADIO_MCP_SERVER and others are Gradio's own.
    """

    model_id: str = DEFAULT_MODEL
    model_revision: str | None = None
    max_picture_mb: int = 20
    max_pictures: int = 20
    queue_size: int = 50
    concurrency: int = 2
    webcam_viewers: int = 4
    webcam_seconds: int = 120
    keep_seconds: int = 600
    auth: list[tuple[str, str]] | None = None

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises `ValueError` for a variable that is not understood: its name, what was expected and what it holds."""
        numbers = [name for name, field in cls.__dataclass_fields__.items() if field.type is int]
        return cls(
            model_id=os.environ.get("MODEL_ID") or DEFAULT_MODEL,
            model_revision=os.environ.get("MODEL_REVISION") or None,
            auth=_read_auth(os.environ.get("DEMO_AUTH", "")),
            **{name: _read_number(name.upper(), cls.__dataclass_fields__[name].default) for name in numbers},
        )

    @property
    def keep_text(self) -> str:
        minutes = self.keep_seconds // 60
        return f"{self.keep_seconds} seconds" if self.keep_seconds < 120 else f"{minutes} minutes"


def _read_number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1; it is {text!r}. Unset it for {default}.")
    return int(text)


def _read_auth(text: str) -> list[tuple[str, str]] | None:
    if not text:
        return None
    pairs = [tuple(pair.strip().split(":", 1)) for pair in text.split(",")]
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        # the text holds passwords: it is not repeated
        raise ValueError("DEMO_AUTH must read name:password, or name:password,name2:password2; it does not.")
    return pairs
