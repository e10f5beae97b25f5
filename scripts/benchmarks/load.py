"""Many concurrent clients of a running demo: how many are answered or told that it is busy, latency and memory.

    python -m scripts.benchmarks.load --clients 50 --requests 5000
    python -m scripts.benchmarks.load --attack --requests 2000

Each starts a demo of the model in model/, and ends it; the address of another one may be given. With --attack one more client,
in a process of its own, sends without a pause what is made to stop the demo: during every other round of requests, and then
while a single visitor asks. The demo keeps its limits there: they hold the attacker back. What the attacker's own process
takes of this machine's processor is printed too: it is missing to the demo where both share the cores.
Each client has an address of its own, as a proxy on this machine would announce it.
"""

import argparse
import io
import json
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from ipaddress import ip_network
from typing import Any

import httpx
import numpy as np
from PIL import Image

from model.errors import AgeGenderError
from scripts.benchmarks.made_up_pictures import PORTRAIT_FILE
from scripts.benchmarks.measuring import cpu_seconds_of_tree, memory_mib
from scripts.benchmarks.visiting import running_demo
from scripts.command import errors_explained


CLIENTS = ip_network("198.18.0.0/15")
COLUMNS, MOST_CLIENTS = 50, 1000  # of places at which the whole face is in the picture
SECONDS_TO_START = 120.0


class LoadError(AgeGenderError):
    """The demo cannot be measured."""


class Visitor:
    """A client with a picture of its own, so that another visitor's answer shows. It uploads the picture each time."""

    def __init__(self, url: str, number: int):
        # of a network for benchmarks, RFC 2544
        self.http, self.url = httpx.Client(timeout=600, headers={"X-Forwarded-For": str(CLIENTS[number])}), url
        buffer = io.BytesIO()
        row, column = divmod(number, COLUMNS)
        Image.open(PORTRAIT_FILE).crop((2 * column, 2 * row, 512, 512)).save(
            buffer, "PNG"
        )  # the face is elsewhere in each
        self.file = f"{number}.png", buffer.getvalue()
        self.expected: list[dict] | None = None

    def ask(self) -> tuple[str, float]:
        """Returns "answered", "busy", "error" or "mixed up" (another visitor's answer), and seconds with the upload."""
        start = time.perf_counter()
        upload = self.http.post(f"{self.url}/gradio_api/upload", files={"files": self.file})
        picture = {"path": upload.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}
        call = self.http.post(f"{self.url}/gradio_api/call/predict", json={"data": [picture, True, "4 bins"]})
        if call.status_code == 503:
            return "busy", time.perf_counter() - start
        events = self.http.get(f"{self.url}/gradio_api/call/predict/{call.raise_for_status().json()['event_id']}").text
        seconds = time.perf_counter() - start
        complete = re.search(r"event: complete\ndata: (.*)", events)
        if complete is None:
            return "error", seconds
        answer = json.loads(complete[1])
        self.expected = self.expected or answer
        return ("answered" if answer == self.expected else "mixed up"), seconds


class Attacker:
    """Sends hostile requests; `sent` counts them by status or outcome."""

    def __init__(self, url: str):
        self.http, self.sent = (
            httpx.Client(base_url=url, timeout=600, headers={"X-Forwarded-For": "203.0.113.1"}),
            Counter[str](),
        )
        black = io.BytesIO()
        Image.new("RGB", (7000, 7000)).save(black, "PNG")
        progressive = io.BytesIO()
        Image.new("L", (5000, 5000), 77).save(progressive, "JPEG", progressive=True)
        data = progressive.getvalue()
        last_scan = data.rindex(b"\xff\xda")
        scans = data[:last_scan] + data[last_scan:-2] * 2500 + data[-2:]
        self._pictures = (black.getvalue(), scans, b"II*\0" + bytes(10_000_000))
        self._json = b'{"data":[' + b"{}," * 600_000 + b"{}]}"

    def attack(self) -> None:
        for picture in self._pictures:
            self._ask_about(picture)
        for path in ("stream/x", "queue/join", "run/predict"):
            answer = self.http.post(f"/gradio_api/{path}", content=self._json)
            self.sent[str(answer.status_code)] += 1

    def _ask_about(self, picture: bytes) -> None:
        upload = self.http.post("/gradio_api/upload", files={"files": ("a.png", picture)})
        if upload.status_code == 200:
            data = [{"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}, True, "4 bins"]
            call = self.http.post("/gradio_api/call/predict", json={"data": data})
            if call.status_code == 200:
                events = self.http.get(f"/gradio_api/call/predict/{call.json()['event_id']}").text
                self.sent["answered" if "event: complete" in events else "refused"] += 1
                return
            upload = call
        self.sent[str(upload.status_code)] += 1
        time.sleep(0.05)  # it is told to wait; without a pause it would only take this machine's processor time


class AttackerProcess:
    """An `Attacker` in a process of its own, so that it takes nothing from the clients that are measured."""

    def __init__(self, url: str):
        spawn = multiprocessing.get_context("spawn")
        self._active, self._attacking, self._ended = spawn.Event(), spawn.Lock(), spawn.Event()
        self._sent: Any = spawn.Queue()
        arguments = (url, self._active, self._attacking, self._ended, self._sent)
        self._process = spawn.Process(target=_attack_until, args=arguments, daemon=True)

    def __enter__(self) -> "AttackerProcess":
        self._process.start()
        self._sent.get(timeout=SECONDS_TO_START)  # its pictures are made
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._process.join(SECONDS_TO_START)
        self._process.kill()

    @contextmanager
    def attacks(self) -> Iterator[None]:
        """During the block, at whose end its last request is over. Raises `LoadError` where it failed."""
        self._active.set()
        yield
        self._active.clear()
        with self._attacking:
            if not self._process.is_alive():
                raise LoadError("The attacker's process has ended: see above.")

    def cpu_seconds(self) -> float:
        return cpu_seconds_of_tree(self._process.pid)

    def sent(self) -> Counter[str]:
        """Of its whole time, which ends."""
        self._ended.set()
        return self._sent.get(timeout=SECONDS_TO_START)


def _attack_until(url: str, active: Any, attacking: Any, ended: Any, sent: Any) -> None:
    attacker = Attacker(url)
    sent.put("ready")
    while not ended.is_set():
        if active.wait(0.05):
            with attacking:
                if active.is_set():
                    attacker.attack()
    sent.put(attacker.sent)


def compare_under_attack(visitors: list[Visitor], url: str, requests: int, pid: int | None) -> None:
    """Rounds with and without an attacker in turn, so that other work of this machine falls on both."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    costs: dict[bool, list[float]] = {False: [], True: []}
    with AttackerProcess(url) as attacker:
        for number in range(max(4, requests // len(visitors))):
            is_attacked = number % 2 == 1
            with attacker.attacks() if is_attacked else nullcontext():
                start, before = time.perf_counter(), cpu_seconds_of_tree(pid) if pid else 0.0
                outcomes, _ = ask_in_rounds(visitors, len(visitors), None)
                rates[is_attacked].append(outcomes["answered"] / (time.perf_counter() - start))
                if pid and outcomes["answered"]:
                    costs[is_attacked].append((cpu_seconds_of_tree(pid) - before) / outcomes["answered"])
        alone, attacked = (float(np.median(rates[is_attacked])) for is_attacked in (False, True))
        print(
            f"{len(visitors)} clients: {alone:.2f} answers a second, {attacked:.2f} under attack ({attacked / alone:.1%})"
        )
        if pid:
            alone, attacked = (1000 * float(np.median(costs[is_attacked])) for is_attacked in (False, True))
            print(
                f"processor time of the demo for each of their answers: {alone:.0f} ms, {attacked:.0f} ms under attack "
                f"({attacked / alone:.1%}), all that it does for the attacker included",
                flush=True,
            )
        seconds: list[float] = []
        start, before = time.perf_counter(), attacker.cpu_seconds()
        with attacker.attacks():
            for _ in range(40):
                outcome, took = visitors[0].ask()
                if outcome != "answered":
                    raise LoadError(f"Expected an answer under attack, got: {outcome}.")
                seconds.append(took)
        share = (attacker.cpu_seconds() - before) / (time.perf_counter() - start)
        p50, p95 = np.percentile(seconds, [50, 95])
        print(f"one visitor under attack: p50 {p50:.2f} s, p95 {p95:.2f} s")
        print(f"the attacker's own process used {share:.0%} of a core meanwhile; what it got: {dict(attacker.sent())}")


def ask_in_rounds(visitors: list[Visitor], requests: int, pid: int | None) -> tuple[Counter[str], list[float]]:
    """In each round all visitors ask concurrently. Returns the outcomes, and the seconds of those that were answered."""
    outcomes: Counter[str] = Counter()
    seconds: list[float] = []
    memory: dict[int, float] = {}
    rounds = max(1, requests // len(visitors))
    tenths = {max(1, round(tenth * rounds / 10)) for tenth in range(1, 11)}
    with ThreadPoolExecutor(len(visitors)) as threads:
        for number in range(1, rounds + 1):
            for outcome, took in threads.map(Visitor.ask, visitors):
                outcomes[outcome] += 1
                if outcome == "answered":
                    seconds.append(took)
            if pid and number in tenths:
                done = number * len(visitors)
                memory[done] = memory_mib("VmRSS", pid)
                print(f"after {done:>6} requests: {memory[done]:6.0f} MiB", flush=True)
    if len(memory) > 1:
        half, end = list(memory)[(len(memory) - 1) // 2], list(memory)[-1]
        grown = 1024 * (memory[end] - memory[half]) / (end - half)
        print(f"from request {half} to {end}, the second half: {grown:.2f} KiB more a request")
    return outcomes, seconds


def ask_at_once(visitors: list[Visitor], each: int) -> Counter[str]:
    """All requests in one moment, more than the queue holds: each must be answered or told that the demo is busy."""
    with ThreadPoolExecutor(each * len(visitors)) as threads:
        return Counter(outcome for outcome, _ in threads.map(Visitor.ask, visitors * each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="of a demo that runs already; default: one that is started")
    parser.add_argument("--model", default="model", help="of the demo that is started")
    parser.add_argument("--pid", type=int, help="process of the demo at that address, to watch its memory")
    parser.add_argument("--clients", type=int, default=50, help=f"at most {MOST_CLIENTS}")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument(
        "--attack", action="store_true", help="compare with and without a client that sends hostile requests"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.clients <= MOST_CLIENTS:
        parser.error(f"Expected 1 to {MOST_CLIENTS} --clients; got {arguments.clients}.")
    try:
        if arguments.url:
            measure(arguments, arguments.url, arguments.pid)
            return
        with running_demo(arguments.model, with_limits=arguments.attack) as demo:
            demo.wait_until_it_answers()
            measure(arguments, demo.url, demo.pid)
    except httpx.HTTPError as error:
        raise LoadError(f"The demo cannot be asked: {type(error).__name__}: {error}") from error


def measure(arguments: argparse.Namespace, url: str, pid: int | None) -> None:
    visitors = [Visitor(url, number) for number in range(arguments.clients)]
    for visitor in visitors:  # sequentially: each must get this answer again
        outcome, _ = visitor.ask()
        if outcome != "answered":
            raise LoadError(f"Expected an answer before there is any load, got: {outcome}.")
    if len({str(visitor.expected) for visitor in visitors}) < len(visitors):
        raise LoadError("Two visitors' pictures have the same answer: mixed-up answers would not show.")
    if pid:
        print(f"after one request of each of {len(visitors)} clients: {memory_mib('VmRSS', pid):.0f} MiB", flush=True)
    if arguments.attack:
        compare_under_attack(visitors, url, arguments.requests, pid)
        return
    start = time.perf_counter()
    outcomes, seconds = ask_in_rounds(visitors, arguments.requests, pid)
    rate = len(seconds) / (time.perf_counter() - start)
    p50, p95 = np.percentile(seconds, [50, 95])
    print(f"{len(visitors)} clients: {dict(outcomes)}; p50 {p50:.2f} s, p95 {p95:.2f} s, {rate:.1f} answers a second")
    print(f"{4 * len(visitors)} requests in one moment: {dict(ask_at_once(visitors, 4))}")


if __name__ == "__main__":
    with errors_explained():
        main()
