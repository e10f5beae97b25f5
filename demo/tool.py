"""What assistants get from the MCP tool: the HTTP API's answer as JSON."""

import json

from gradio.mcp import GradioMCPServer
from gradio_client import Client

from demo.door import OWN_HEADER, OWN_SECRET


class JsonMCPServer(GradioMCPServer):
    """Gradio's own answers with Python's way of writing values, which is not JSON: `None`, and 'single quotes'."""

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]

    def _get_or_create_client(self) -> Client:
        """The one by which the server uploads and asks for all assistants."""
        if self.local_url is None:  # not before the start is over: Gradio would ask whatever host the caller names
            raise ValueError("The demo is starting. Try again in a moment.")
        client = super()._get_or_create_client()
        client.headers[OWN_HEADER] = OWN_SECRET
        return client
