"""What the operator sets through environment variables, checked before anything is loaded."""

import os
import re
import socket
from dataclasses import dataclass, field, fields
from pathlib import Path

from model.errors import AgeGenderError


HUB = "https://huggingface.co"  # shows a Space in a frame of its page
# The proxies of a Space have private addresses. The client is the last address in X-Forwarded-For that is not one of
# them: the client may have made up those before it.
SPACE_PROXIES = "127.0.0.1,::1,10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fc00::/7"
DEFAULT_MODEL = str(Path(__file__).resolve().parents[1] / "model")
CC_BY_MODEL = DEFAULT_MODEL + "_cc_by"
DEFAULT_RANGES = "FairFace-9"  # where nobody chooses


class SettingsError(AgeGenderError):
    """An environment variable cannot be used. The message names it, what was expected and what it holds."""


@dataclass(frozen=True)
class ModelChoice:
    """A model the operator offers: a folder, or a Hub id at a revision.

    kind: of a model that ships, by which the page says in the visitor's language what it is good for.
    """

    name: str
    model_id: str
    revision: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Settings:
    """Environment variables:

    MODEL_ID            a Hub id, or a folder shaped like model/ (default: visitors choose model/ or model_cc_by/ beside app.py)
    MODEL_REVISION      a branch, tag or commit of that Hub id
    MODEL_IDS           several models in place of MODEL_ID; visitors choose one on the page and start with the first:
                        user/one@v1,user/two or, with names of your own, Small=user/one@v1,Large=user/two
    MAX_PICTURE_MB      largest picture in megabytes (20)
    MAX_PICTURES        most pictures in one go (20)
    REQUESTS_PER_MINUTE of one client, which is told to wait after that many; a picture takes one,
                        through the API two, upload and question (120)
    MB_PER_MINUTE       megabytes that one client may send (500; one full go is always allowed)
    MAX_STORED_MB       megabytes of all uploads on disk: the oldest are deleted first, then further ones are refused (1000)
    MAX_CONNECTIONS     open connections of all clients (500)
    DECODE_SECONDS      after which decoding a picture is broken off (5)
    QUEUE_SIZE          pictures that may wait in each of two lines, the API's and that of the page with POST /predict;
                        further ones are told that the demo is busy (50)
    CONCURRENCY         predictions that run at the same time, apart from live webcams (2)
    WEBCAM_VIEWERS      live webcams at the same time; as many may wait (4)
    WEBCAM_SECONDS      how long a live webcam may run (120)
    KEEP_SECONDS        after which uploaded files are deleted (600)
    DEMO_AUTH           name:password, with commas between several; unset leaves the demo open. Not with GRADIO_MCP_SERVER
    ALLOWED_ORIGINS     other sites whose pages may embed the demo and ask it, with commas between: https://www.example.org (on
                        a Space https://huggingface.co, else none)
    GRADIO_SERVER_NAME, GRADIO_SERVER_PORT, GRADIO_MCP_SERVER and others are Gradio's own. A GRADIO_SERVER_PORT that is taken
    is an error; without it the first free port from 7860 is taken. The demo makes a folder of its own
    in GRADIO_TEMP_DIR. Behind a proxy set FORWARDED_ALLOW_IPS to the proxy's address or network, so that the request limits
    see each client's own address (on a Space it is set already).
    """

    models: list[ModelChoice] = field(default_factory=lambda: shipped_models())
    max_picture_mb: int = 20
    max_pictures: int = 20
    requests_per_minute: int = 120
    mb_per_minute: int = 500
    max_stored_mb: int = 1000
    max_connections: int = 500
    decode_seconds: int = 5
    queue_size: int = 50
    concurrency: int = 2
    webcam_viewers: int = 4
    webcam_seconds: int = 120
    keep_seconds: int = 600
    auth: list[tuple[str, str]] | None = None
    allowed_origins: tuple[str, ...] = ()
    mcp_enabled: bool = False  # GRADIO_MCP_SERVER, which takes larger bodies than the rest

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises `SettingsError`."""
        auth = _read_auth(os.environ.get("DEMO_AUTH", ""))
        mcp_enabled = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
        if auth and mcp_enabled:
            raise SettingsError(
                "DEMO_AUTH and GRADIO_MCP_SERVER cannot be set together: Gradio's MCP tool cannot log in, and takes "
                "pictures from people who have not. Unset one of them."
            )
        numbers = {
            setting.name: _read_number(setting.name.upper(), setting.default)
            for setting in fields(cls)
            if type(setting.default) is int
        }
        return cls(
            models=_read_models(), auth=auth, allowed_origins=_read_origins(), mcp_enabled=mcp_enabled, **numbers
        )


def shipped_models() -> list[ModelChoice]:
    """Those of the repository; an image of the demo may hold the first one alone."""
    choices = [
        ModelChoice("Most accurate, for research only", DEFAULT_MODEL, kind="accurate"),
        ModelChoice("CC BY 4.0", CC_BY_MODEL, kind="reusable"),
    ]
    return choices if Path(CC_BY_MODEL).is_dir() else choices[:1]


def server_port() -> int | None:
    """GRADIO_SERVER_PORT, None where it is not set. It must be read before Gradio is imported, which reads it too.

    Raises:
        SettingsError: it is no port.
    """
    text = os.environ.get("GRADIO_SERVER_PORT", "")
    if not text:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise SettingsError(f"GRADIO_SERVER_PORT must be a number from 1 to 65535; it is {text!r}. Unset it for 7860.")
    return int(text)


def check_port_is_free() -> None:
    """Where GRADIO_SERVER_PORT is not set, Gradio looks for a free port itself.

    Raises:
        SettingsError: another program listens on that port. A proxy would find that program instead of this demo.
    """
    port, host = server_port(), os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1").strip("[]")
    if port is None:
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself, after a restart
            listener.bind((host, port))
    except OSError as error:
        raise SettingsError(
            f"GRADIO_SERVER_PORT is {port}, which cannot be used on {host}: {error.strerror}. End the program that listens "
            "there, or choose another port."
        ) from None


def _read_models() -> list[ModelChoice]:
    text, model_id, revision = (os.environ.get(name, "") for name in ("MODEL_IDS", "MODEL_ID", "MODEL_REVISION"))
    if revision and (text or not model_id):
        raise SettingsError("MODEL_REVISION needs MODEL_ID; in MODEL_IDS write user/repo@revision.")
    if not text:
        if not model_id:
            return shipped_models()
        return [ModelChoice(default_name(model_id), model_id, revision or None)]
    choices = []
    for entry in text.split(","):
        name, _, place = (part.strip() for part in entry.rpartition("="))
        model_id, _, revision = place.partition("@")
        choices.append(ModelChoice(name or default_name(place), model_id, revision or None))
    if not all(choice.model_id for choice in choices) or len({choice.name for choice in choices}) < len(choices):
        raise SettingsError(
            "MODEL_IDS must list models with commas between, no two of one name: user/repo, user/repo@revision or a "
            f"folder, each also as name=user/repo; it is {text!r}."
        )
    return choices


def default_name(place: str) -> str:
    return Path(place).resolve().name if Path(place).is_dir() else place


def _read_number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{name} must be a whole number of at least 1; it is {text!r}. Unset it for {default}.")
    return int(text)


def _read_auth(text: str) -> list[tuple[str, str]] | None:
    """Names and passwords. The error does not repeat the text, which holds passwords."""
    if not text:
        return None
    pairs = []
    for entry in text.split(","):
        name, _, password = entry.strip().partition(":")
        if not name or not password:
            raise SettingsError("DEMO_AUTH must read name:password, or name:password,name2:password2; it does not.")
        pairs.append((name, password))
    return pairs


def _read_origins() -> tuple[str, ...]:
    text = os.environ.get("ALLOWED_ORIGINS", HUB if "SPACE_ID" in os.environ else "")
    origins = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s*@?#]+", origin):
            raise SettingsError(
                f"ALLOWED_ORIGINS must list sites as https://www.example.org, with commas between; it holds {origin!r}."
            )
    return origins
