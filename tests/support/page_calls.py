"""The requests that the page sends to its server, without a browser."""

from uuid import uuid4

import httpx


FILE_MARK = {"_type": "gradio.FileData"}


def page_joins(http: httpx.Client, component: str, value: object) -> tuple[str, dict]:
    """Call the page's own function whose first input is `component` -> the event, and the body that was sent."""
    page = http.get("/config").raise_for_status().json()
    parts = {part["id"]: part["props"] for part in page["components"]}
    inputs = {call["id"]: call["inputs"] for call in page["dependencies"] if call["inputs"]}
    function = next(number for number, (first, *_) in inputs.items() if parts[first].get("elem_id") == component)
    body = {"data": [value, *(parts[part].get("value") for part in inputs[function][1:])]}
    body |= {"fn_index": function, "session_hash": uuid4().hex}
    return http.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"], body


def page_asks(http: httpx.Client, component: str, value: object) -> str:
    """Call it as `page_joins` does -> the server's message with the answer."""
    event, body = page_joins(http, component, value)
    with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": body["session_hash"]}) as messages:
        kinds = ('"process_completed"', '"process_streaming"')
        answer = next(line for line in messages.iter_lines() if any(kind in line for kind in kinds))
    http.post(f"/gradio_api/stream/{event}/close")
    return answer
