"""The demo: pictures and webcam in, apparent age and gender out; a thin page over one pipeline. Run: `python app.py`."""

import argparse
import os
import signal
import sys
from functools import partial
from pathlib import Path

from demo.settings import SPACE_PROXIES, Settings, SettingsError, check_port_is_free, server_port
from demo.storage import Files, UploadSpace, delete_uploads, own_folder


# This file is the process's entry, so it sets the environment. It does so before the first import of gradio, which reads
# GRADIO_TEMP_DIR while it is imported:
# https://github.com/gradio-app/gradio/blob/gradio%406.31.0/gradio/route_utils.py#L1444
os.environ["GRADIO_TEMP_DIR"] = str(own_folder())
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Gradio lists who asked when, and makes a table of up to 10,000 requests after every one of them:
# https://github.com/gradio-app/gradio/issues/13154 and, since 6.25, https://github.com/gradio-app/gradio/pull/13756.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
try:
    if server_port():
        os.environ.setdefault("GRADIO_NUM_PORTS", "1")  # Gradio would silently take the next free one
except SettingsError as error:
    sys.exit(str(error))
if "SPACE_ID" in os.environ:
    os.environ.setdefault("FORWARDED_ALLOW_IPS", SPACE_PROXIES)  # uvicorn's

import pillow_heif  # noqa: F401 - optional for model/image_loading.py, but iPhones send HEIF pictures to a demo

from demo.decoding import FRAMES, PICTURES
from demo.desk import page_routes
from demo.device_camera import device_routes
from demo.gradio_changes import NAMING_ERRORS, install_gradio_changes, refuse_unknown_names
from demo.handlers import Handlers
from demo.memory import MAX_SESSIONS, exempt_from_collections, forget_sessions, limit_malloc_arenas, return_freed_memory
from demo.page import CSS_FILE, I18N, THEME, build_demo, head
from demo.serving import find_model
from model.errors import AgeGenderError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=Settings.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    limit_malloc_arenas()
    return_freed_memory()
    try:
        check_port_is_free()
        try:
            serve(Settings.from_environment())
        except OSError:
            check_port_is_free()  # as where another one has taken it while the model was read
            raise
    except AgeGenderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Raises `AgeGenderError` for what the operator has to mend."""
    models = [find_model(choice) for choice in settings.models]
    _ = models[0].pipeline  # read its weights now, so that the first visitor need not wait
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"GRADIO_TEMP_DIR must name a folder that can be written to: {error}.") from error
    files = Files(folder)
    space = UploadSpace(files, settings.max_stored_mb * 1_000_000)
    install_gradio_changes(settings, space, head())
    PICTURES.configure(settings.concurrency, settings.decode_seconds)
    FRAMES.configure(1, settings.decode_seconds)
    PICTURES.start()
    handlers = Handlers(models, settings.concurrency)
    page = build_demo(handlers, settings)
    exempt_from_collections()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the uploads are deleted at the end
    with delete_uploads(
        files, settings.keep_seconds, page.temp_file_sets, partial(forget_sessions, page, settings.keep_seconds)
    ):
        # With api_open, Gradio's default, a POST to /gradio_api/run/predict would not wait in the queue.
        page.queue(max_size=settings.queue_size, api_open=False).launch(
            app_kwargs={
                "routes": [*page_routes(handlers, settings, space), *device_routes(models)],
                "exception_handlers": dict.fromkeys(NAMING_ERRORS, refuse_unknown_names),
            },
            theme=THEME,
            css_paths=CSS_FILE,
            max_file_size=f"{settings.max_picture_mb}mb",
            auth=settings.auth,
            run_history=False,
            state_session_capacity=MAX_SESSIONS,
            i18n=I18N,
            footer_links=[
                "api"
            ],  # without it ?view=api shows nothing; the page has its own footer, in the visitor's language
        )


if __name__ == "__main__":
    sys.exit(main())
