"""The process that decodes pictures for `demo.decoding`: `python -m demo.decoding_process`.

What a hostile file can harm is this process alone: its memory is limited (`RLIMIT_AS`), its processor time too, and the demo
kills it at the deadline. It reads requests from standard input and writes answers to standard output.

A request is `REQUEST` (length of the file, length of its name, whether others come first), the name and the file. The
answers to it, each `ANSWER` (kind and length) with its content: `SIZE` (the pixels, from the file's header), then, after the
demo's byte `GO`, `PICTURE` (`SHAPE`: height and width; then RGB bytes), `REFUSED` (a sentence), or `TOO_COSTLY` (a sentence:
its memory does not suffice).
At its start it writes `READY`.
"""

import io
import os
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

import cv2
import PIL.AvifImagePlugin
import PIL.Image

from model.decoding_limits import MAX_PIXELS
from model.errors import PictureError
from model.image_decoding import decode
from model.image_formats import FORMATS


Result = TypeVar("Result")

REQUEST, ANSWER, SIZE_CONTENT, SHAPE = (struct.Struct(layout) for layout in (">QI?", ">cQ", ">Q", ">II"))
READY, SIZE, PICTURE, REFUSED, TOO_COSTLY = b"R", b"S", b"P", b"E", b"M"
GO = b"G"
HEADER_BYTES = 100_000_000  # for everything but pixels, the libraries' tables and a file's tags among it
BYTES_PER_PIXEL = (
    13  # an RGB picture as Pillow holds it (4), as an array (3), and while it is copied from one to the other
)
NICER = 10  # a tenth of what another thread gets where both want the processor: enough to end before the deadline
CPU_SECONDS = 15  # ends a process that nobody waits for any more


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that no library writes between the answers
    use_one_thread()
    send(answers, READY)
    while request := sys.stdin.buffer.read(REQUEST.size):
        file_bytes, name_bytes, others_first = REQUEST.unpack(request)
        call = at_low_priority if others_first else at_once
        name = sys.stdin.buffer.read(name_bytes).decode()
        data = sys.stdin.buffer.read(file_bytes)
        limit_cpu_time()
        limit_memory(HEADER_BYTES)
        pixels = call(pixels_of, data)
        send(answers, SIZE, SIZE_CONTENT.pack(pixels))
        if sys.stdin.buffer.read(len(GO)) != GO:
            return
        limit_memory(HEADER_BYTES + BYTES_PER_PIXEL * pixels)
        try:
            image_rgb = call(decode, data, name)
        except PictureError as error:
            if is_of_memory(error):
                send(answers, TOO_COSTLY, too_much_memory(name).encode())
            else:
                send(answers, REFUSED, str(error).encode())
        except MemoryError:
            send(answers, TOO_COSTLY, too_much_memory(name).encode())
        else:
            send(answers, PICTURE, SHAPE.pack(*image_rgb.shape[:2]), image_rgb.reshape(-1).data)
            del image_rgb
        del data


def at_once(function: Callable[..., Result], *args: Any) -> Result:
    return function(*args)


def at_low_priority(function: Callable[..., Result], *args: Any) -> Result:
    """In a thread of its own, since a process may lower its priority but not raise it again. Linux: elsewhere `at_once`."""
    if sys.platform != "linux":
        return function(*args)
    with ThreadPoolExecutor(1, initializer=lower_priority) as thread:
        return thread.submit(function, *args).result()


def lower_priority() -> None:
    """Of this thread alone, on Linux."""
    priority = min(os.getpriority(os.PRIO_PROCESS, 0) + NICER, 19)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)


def use_one_thread() -> None:
    """Each picture has one core, and threads need address space, which is limited."""
    cv2.setNumThreads(1)
    PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        import pillow_heif  # optional
    except ImportError:
        return
    pillow_heif.options.DECODE_THREADS = 1


def pixels_of(data: bytes) -> int:
    """By the file's header; `MAX_PIXELS` where it tells more or cannot be read, 0 where reading it takes too much memory."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return min(image.width * image.height, MAX_PIXELS)
    except MemoryError:
        return 0
    except Exception:  # many types: Pillow reads damaged data here. `decode` says what is wrong
        return MAX_PIXELS


def limit_memory(more_bytes: int) -> None:
    """What may be allocated from now on. Linux only: other systems do not hold `RLIMIT_AS`."""
    if sys.platform == "linux":
        import resource

        with open("/proc/self/statm") as sizes:
            now = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, resource.RLIM_INFINITY))


def limit_cpu_time() -> None:
    if sys.platform == "linux":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def is_of_memory(error: PictureError) -> bool:
    """Whether memory ran out; the libraries' own words would call the file damaged."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "memory" in str(cause).lower():
            return True
        cause = cause.__cause__
    return False


def too_much_memory(name: str) -> str:
    return f"Expected a picture that fits into the memory of one picture, but {name} needs more. Save it as JPEG."


def send(answers: BinaryIO, kind: bytes, *contents: bytes | memoryview) -> None:
    answers.write(ANSWER.pack(kind, sum(len(content) for content in contents)))
    for content in contents:
        answers.write(content)
    answers.flush()


if __name__ == "__main__":
    main()
