"""What Gradio refuses gets a clear answer, no address is fetched, no file name is logged, and no session remembered."""

import logging
from typing import Any

import gradio as gr
from gradio.state_holder import SessionState
from gradio_client.utils import is_file_obj, is_http_url_like, traverse

from demo.cleaning_up import as_own


FORGOTTEN_SECONDS = 60  # after a page was closed, what it had been answered; Gradio's own choice is an hour
UPLOADS = "/gradio_api/file="  # what an uploaded file's own address holds before its path
REFUSED = (
    "Expected a picture that was uploaded to this demo (POST it to /gradio_api/upload), and the types that the API page "
    "lists. Paths of the server and web addresses are never read."
)
logger = logging.getLogger(__name__)


class StrictBlocks(gr.Blocks):
    """Gradio would fetch any public address of any size, ask a public name server for others, and answer `error: null`.

    It would also keep the last pictures and answers of each visitor in memory, for links to a page as one left it, which
    this page does not offer.
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list, state: SessionState | None, *args: Any, **kwargs: Any
    ) -> list:
        try:
            checked = traverse(inputs, _uploaded, is_file_obj)
            return await super().preprocess_data(block_fn, checked, state, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False  # nor does the log get what the visitor sent
            raise
        except Exception as error:
            logger.warning("input refused: %s", type(error).__name__)  # its text would hold what the visitor sent
            raise gr.Error(REFUSED, title="This cannot be used", print_exception=False) from None
        finally:
            self._forget(state)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: SessionState | None) -> list:
        try:
            return await super().postprocess_data(block_fn, predictions, state)
        finally:
            self._forget(state)

    def _forget(self, state: SessionState | None) -> None:
        if state is not None:
            state.config_values.clear()
            state.STATE_TTL_WHEN_CLOSED = FORGOTTEN_SECONDS
            # `gr.update` leaves a component with the new words behind, such as a picture's description.
            state.blocks_config.blocks.update(self.default_config.blocks)


def _uploaded(file: dict) -> dict:
    """The file with the mark by which Gradio checks that it was uploaded; it believes the path of a picture without one.

    Tools name their upload by its address on this server: the path in it is what is checked. A page that was open before
    a restart names files that are gone: they are looked for here, so that the page hears that they were deleted.
    """
    path = file["path"]
    if is_http_url_like(path):
        _, own, path = path.partition(UPLOADS)
        if not own or is_http_url_like(path):
            raise ValueError("a web address")
    return {**file, "path": as_own(path), "meta": {"_type": "gradio.FileData"}}
