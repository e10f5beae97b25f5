"""Two demos behind a real nginx with the configuration of deploy/."""

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from gradio_client import Client, handle_file

from tests.support import image_files
from tests.support.demo_server import ROOT, DemoServer
from tests.support.nginx import NGINX, needs_nginx
from tests.support.tiny_model import save_tiny_model


PORTRAIT = ROOT / "examples" / "astronaut.jpg"


class Visitor:
    """A browser's part: it opens the page, keeps its cookies, uploads, waits in the queue, streams a webcam."""

    def __init__(self, url: str, address: str = "127.0.0.1"):
        self.http = httpx.Client(base_url=url, timeout=120, transport=httpx.HTTPTransport(local_address=address))
        self.session = uuid4().hex[:11]
        self.http.get("/").raise_for_status()

    def replica(self) -> str:
        return self.http.get("/gradio_api/app_id").raise_for_status().json()["app_id"]

    def upload(self, path: Path) -> dict:
        answer = self.http.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes())})
        return {"path": answer.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}

    def join(self, function: int, data: list) -> str:
        body = {"data": data, "fn_index": function, "session_hash": self.session}
        return self.http.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]

    def messages(self) -> Iterator[dict]:
        """What the queue says to this session, as it comes."""
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.raise_for_status().iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def ask(self, function: int, data: list) -> list:
        """One question and its answer."""
        self.join(function, data)
        done = next(message for message in self.messages() if message["msg"] == "process_completed")
        assert done["success"], done
        return done["output"]["data"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[tuple[str, list[DemoServer]]]:
    """nginx's address and the two processes behind it, which run what the image would hold."""
    folder = tmp_path_factory.mktemp("pair")
    code = image_files.lay_out(folder / "app")
    save_tiny_model(folder / "tiny")
    settings = image_files.environment() | {"GRADIO_SERVER_NAME": "127.0.0.1", "MODEL_ID": str(folder / "tiny")}
    settings = {
        name: value for name, value in settings.items() if name not in ("GRADIO_SERVER_PORT", "GRADIO_TEMP_DIR")
    }
    replicas = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        replicas.append(DemoServer(folder / name, code=code, **settings, REQUESTS_PER_MINUTE="60"))
    with replicas[0], replicas[1]:
        with socket.create_server(("127.0.0.1", 0)) as free:  # now: while they start, others take ports
            port = free.getsockname()[1]
        configuration = (ROOT / "deploy/nginx.conf").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        for shipped, replica in zip(("127.0.0.1:7861", "127.0.0.1:7862"), replicas, strict=True):
            configuration = configuration.replace(shipped, replica.url.removeprefix("http://"))
        (folder / "nginx.conf").write_text(configuration)
        command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "nginx.log", "-g", "daemon off;"]
        with subprocess.Popen(command) as nginx:
            url = f"http://127.0.0.1:{port}"
            for _ in range(50):
                try:
                    httpx.get(url)
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield url, replicas
            nginx.terminate()


@pytest.fixture
def visit(pair) -> Iterator[Callable[..., Visitor]]:
    """`visit()` opens the page as a new visitor; `visit("127.0.0.2")` does from that address."""
    url, _ = pair
    with ExitStack() as leaving:

        def come(address: str = "127.0.0.1") -> Visitor:
            visitor = Visitor(url, address)
            leaving.callback(visitor.http.close)
            return visitor

        yield come


def functions(url: str) -> dict[str, int]:
    """Which number the page's configuration gives the API's function and the webcam's."""
    numbers = {}
    for dependency in httpx.get(f"{url}/config").json()["dependencies"]:
        events = [event for _, event in dependency["targets"]]
        if dependency["api_name"] == "predict":
            numbers["predict"] = dependency["id"]
        elif "stream" in events:
            numbers["webcam"] = dependency["id"]
    return numbers


@pytest.mark.slow
@needs_nginx
class TestPairBehindNginx:
    def test_the_health_check_of_the_image_passes(self, pair):
        _, replicas = pair
        port = replicas[0].environment["GRADIO_SERVER_PORT"]
        command = [part.replace("7860", port) for part in image_files.health_command()]
        subprocess.run([sys.executable, *command[1:]], check=True)

    def test_both_processes_get_visitors_and_each_visitor_stays_with_one(self, visit):
        visitors = [visit() for _ in range(16)]
        homes = [visitor.replica() for visitor in visitors]
        assert len(set(homes)) == 2
        for visitor in visitors:
            visitor.http.get("/").raise_for_status()  # a second tab
        assert [visitor.replica() for visitor in visitors] == homes

    def test_uploads_and_the_queue_work_on_both(self, pair, visit):
        predict = functions(pair[0])["predict"]
        visitors = [visit() for _ in range(16)]
        by_replica = {visitor.replica(): visitor for visitor in visitors}
        assert len(by_replica) == 2
        first, second = (
            [visitor.ask(predict, [visitor.upload(PORTRAIT), True, "4 bins"]) for _ in range(4)]
            for visitor in by_replica.values()
        )
        assert len(first[0][0]) == 1
        assert first == second == [first[0]] * 4

    def test_the_webcam_streams_unbuffered(self, pair, visit):
        webcam = functions(pair[0])["webcam"]
        page = httpx.get(f"{pair[0]}/config").json()
        inputs = next(item["inputs"] for item in page["dependencies"] if item["id"] == webcam)
        values = {item["id"]: item["props"].get("value") for item in page["components"]}
        visitor = visit()
        picture = {"url": "data:image/jpeg;base64," + base64.b64encode(PORTRAIT.read_bytes()).decode()}
        frame = [picture, *(values[number] for number in inputs[1:])]
        event = visitor.join(webcam, frame)
        answered = []
        for message in visitor.messages():
            if message["msg"] == "process_streaming":
                answered.append(message["output"]["data"])
                if len(answered) == 3:
                    visitor.http.post(f"/gradio_api/stream/{event}/close").raise_for_status()
                else:  # the next frame goes out after the last one's answer has come through
                    body = {"data": frame, "fn_index": webcam, "session_hash": visitor.session, "event_id": event}
                    visitor.http.post(f"/gradio_api/stream/{event}", json=body).raise_for_status()
            elif message["msg"] == "process_completed":
                break
        assert len(answered) == 3

    @pytest.mark.parametrize("path", ["/predict", "/page/answer"])
    def test_pictures_may_be_as_large_as_the_demo_takes(self, visit, path):
        """Bytes after a JPEG's end are no part of the picture."""
        visitor = visit()
        for size, status in ((20_000_000, 200), (20_000_001, 413)):
            answer = visitor.http.post(path, files={"picture": PORTRAIT.read_bytes().ljust(size, b"\0")})
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json"), answer.text[
                :200
            ]

    def test_programs_need_no_cookies(self, pair):
        client = Client(pair[0], verbose=False)
        answers = [client.predict(handle_file(PORTRAIT), api_name="/predict") for _ in range(4)]
        assert len(answers[0]) == 1
        assert answers == [answers[0]] * 4

    def test_the_limit_counts_visitors_and_not_nginx(self, visit):
        greedy, other = visit("127.0.0.30"), visit("127.0.0.31")
        claimed = {"X-Forwarded-For": "10.0.0.1"}
        statuses = [greedy.http.post("/gradio_api/nothing", headers=claimed).status_code for _ in range(61)]
        assert 429 not in statuses[:-1]
        assert statuses[-1] == 429
        assert other.http.post("/gradio_api/nothing").status_code != 429

    def test_when_a_process_ends_the_other_takes_its_visitors(self, pair, visit):
        visitors = [visit() for _ in range(16)]
        homes = {visitor.replica() for visitor in visitors}
        assert len(homes) == 2
        pair[1][0].__exit__()
        left = {visitor.replica() for visitor in [*visitors, visit()]}
        assert len(left) == 1
        assert left < homes
