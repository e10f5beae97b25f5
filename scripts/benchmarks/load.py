"""Many clients at once against a running demo: who was answered, who was told it is busy, how long it took, memory.

REQUESTS_PER_MINUTE=1000000 python app.py &
python -m scripts.benchmarks.load http://127.0.0.1:7860 --pid $! --clients 50 --requests 5000
"""

import argparse
import io
import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image


PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"


class Visitor:
    """One client with a picture of its own, so that a mixed-up answer shows. It is sent anew for every question."""

    def __init__(self, url: str, number: int):
        self.http, self.url = httpx.Client(timeout=600), url
        buffer = io.BytesIO()
        Image.open(PORTRAIT).crop((2 * number, number, 512, 512)).save(buffer, "PNG")  # the face lies elsewhere in each
        self.file = f"{number}.png", buffer.getvalue()
        self.expected = None

    def ask(self) -> tuple[str, float]:
        """-> answered, busy, error or mixed up (another visitor's answer); seconds, with the upload."""
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


def memory_mib(pid: int) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def ask_in_rounds(visitors: list[Visitor], requests: int, pid: int | None) -> tuple[Counter, list[float]]:
    """Everyone asks again as soon as everyone has an answer; -> outcomes, seconds of those that were answered."""
    outcomes, seconds, memory = Counter(), [], {}
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
                memory[done] = memory_mib(pid)
                print(f"after {done:>6} requests: {memory[done]:6.0f} MiB", flush=True)
    if len(memory) > 1:
        half, end = list(memory)[(len(memory) - 1) // 2], list(memory)[-1]
        grown = 1024 * (memory[end] - memory[half]) / (end - half)
        print(f"from request {half} to {end}, the second half: {grown:.2f} KiB more a request")
    return outcomes, seconds


def ask_at_once(visitors: list[Visitor], each: int) -> Counter:
    """More requests in one moment than the queue takes: each must be answered or told that the demo is busy."""
    with ThreadPoolExecutor(each * len(visitors)) as threads:
        return Counter(outcome for outcome, _ in threads.map(Visitor.ask, visitors * each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--pid", type=int, help="of the demo, to watch its memory")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=5000)
    arguments = parser.parse_args()
    visitors = [Visitor(arguments.url, number) for number in range(arguments.clients)]
    for visitor in visitors:  # one by one: the answer each must get again
        outcome, _ = visitor.ask()
        if outcome != "answered":
            raise RuntimeError(f"expected an answer before there is any load, got: {outcome}")
    if len({str(visitor.expected) for visitor in visitors}) < len(visitors):
        raise RuntimeError("two visitors' pictures have the same answer, so that mixed-up answers would not show")
    if arguments.pid:
        print(f"after one request of each of {len(visitors)} clients: {memory_mib(arguments.pid):.0f} MiB", flush=True)
    start = time.perf_counter()
    outcomes, seconds = ask_in_rounds(visitors, arguments.requests, arguments.pid)
    rate = len(seconds) / (time.perf_counter() - start)
    p50, p95 = np.percentile(seconds, [50, 95])
    print(f"{len(visitors)} clients: {dict(outcomes)}; p50 {p50:.2f} s, p95 {p95:.2f} s, {rate:.1f} answers a second")
    print(f"{4 * len(visitors)} requests in one moment: {dict(ask_at_once(visitors, 4))}")


if __name__ == "__main__":
    main()
