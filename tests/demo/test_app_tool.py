"""The MCP tool: the same answers as the API, no file of the server, no address of its network, a rate limit for each client."""

import asyncio
import base64
import json
import re
import shutil
import socket
from pathlib import Path

import pytest
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool
from transformers import AutoImageProcessor

from model.configuration_age_gender import RANGE_SETS
from model.modeling_age_gender import AgeGenderModel
from model.pipeline_age_gender import AgeGenderPipeline
from tests.support.demo_server import ROOT, DemoServer
from tests.support.page_calls import FILE_MARK


pytestmark = pytest.mark.slow
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
PORTRAIT_DATA = "data:image/jpeg;base64," + base64.b64encode(PORTRAIT.read_bytes()).decode()


def call(demo: DemoServer, picture: object, query: str = "", headers: dict | None = None) -> CallToolResult:
    async def ask() -> CallToolResult:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/{query}", headers)
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await session.call_tool("predict", {"picture": picture, "age_ranges": "4 bins"})

    return asyncio.run(ask())


def test_assistants_call_the_same_function_as_a_tool(demo: DemoServer):
    async def tools() -> dict[str, Tool]:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/")
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return {tool.name: tool for tool in (await session.list_tools()).tools}

    folder = demo.environment["MODEL_ID"]
    pipe = AgeGenderPipeline(
        model=AgeGenderModel.from_pretrained(folder), image_processor=AutoImageProcessor.from_pretrained(folder)
    )
    listed = asyncio.run(tools())
    assert list(listed) == ["predict"]
    assert "base64" in listed["predict"].description
    assert all(name in listed["predict"].inputSchema["properties"]["age_ranges"]["description"] for name in RANGE_SETS)
    answer = json.loads(call(demo, PORTRAIT_DATA).content[0].text)
    assert answer == json.loads(json.dumps(pipe(str(PORTRAIT), age_ranges="4 bins")))


@pytest.mark.parametrize(
    ("picture", "query", "expected"),
    [
        pytest.param({"path": str(PORTRAIT), "meta": FILE_MARK}, "", "not of type 'string'", id="server picture"),
        pytest.param({"path": str(PORTRAIT)}, "", "not of type 'string'", id="server picture without its mark"),
        # with which the server does not check the types
        pytest.param(
            {"path": str(PORTRAIT), "meta": FILE_MARK}, "?tools=none", "of type|not in the selected", id="unlisted tool"
        ),
        pytest.param(str(PORTRAIT), "", "Invalid file data format", id="path"),
        pytest.param(PORTRAIT.as_uri(), "", "Invalid file data format", id="file address"),
        pytest.param("{demo}/gradio_api/file={file}", "", "never read", id="path in the demo's own address"),
        pytest.param("{inside}", "", "never read", id="internal address"),
        pytest.param("{demo}/gradio_api/file={inside}", "", "never read", id="address behind an address"),
        pytest.param("data:image/jpeg;base64,", "", "is empty", id="zero bytes"),
        pytest.param("data:image/jpeg;base64,bm90IGEgcGljdHVyZQ==", "", "is none of these", id="text"),
    ],
)
def test_what_is_no_picture_of_the_callers_is_refused(
    demo: DemoServer, tmp_path: Path, picture: object, query: str, expected: str
):
    file = shutil.copy(PORTRAIT, tmp_path)  # the demo does answer for the pictures in its own folder examples/
    with socket.create_server(("127.0.0.1", 0)) as inside:
        address = f"http://127.0.0.1:{inside.getsockname()[1]}/picture.jpg"
        if isinstance(picture, str):
            picture = picture.replace("{demo}", demo.url).replace("{inside}", address).replace("{file}", file)
        result = call(demo, picture, query)
        inside.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nobody has knocked
            inside.accept()
    assert result.isError
    assert re.search(expected, result.content[0].text)
    assert str(demo.files) not in result.content[0].text


def test_a_path_is_not_read_for_a_prompt_either(demo: DemoServer):
    """Gradio answers a prompt of any name with the last function of the API."""

    async def ask() -> None:
        connection = streamablehttp_client(f"{demo.url}/gradio_api/mcp/")
        async with connection as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            with pytest.raises(McpError):
                await session.get_prompt("anything", {"picture": str(PORTRAIT)})

    asyncio.run(ask())


def test_mcp_clients_do_not_share_one_rate(demo: DemoServer, tmp_path: Path):
    """Each call counts for the client that makes it; the internal requests behind it do not count."""
    environment = {"MODEL_ID": demo.environment["MODEL_ID"], "GRADIO_MCP_SERVER": "True", "REQUESTS_PER_MINUTE": "5"}
    with DemoServer(tmp_path, **environment) as limited:
        for caller in range(7):  # more than the rate of one
            result = call(limited, PORTRAIT_DATA, headers={"X-Forwarded-For": f"192.0.2.{caller}"})
            assert not result.isError, result.content
