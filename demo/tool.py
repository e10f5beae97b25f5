"""What assistants get from the MCP tool: the HTTP API's answer as JSON."""

import json

from gradio.mcp import GradioMCPServer


class JsonMCPServer(GradioMCPServer):
    """Gradio's own answers with Python's way of writing values, which is not JSON: `None`, and 'single quotes'."""

    def postprocess_output_data(self, data: list, root_url: str) -> list:
        return [self.types.TextContent(type="text", text=json.dumps(output)) for output in data]
