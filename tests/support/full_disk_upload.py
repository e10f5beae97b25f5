"""`python -m tests.support.full_disk_upload FOLDER`: an upload of 3 MB onto a smaller disk, past the check for room."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from demo import storage
from demo.uploads import StrictMultiPartParser


async def body() -> AsyncIterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    for _ in range(30):
        yield bytes(100_000)
    yield b"\r\n--x--\r\n"


async def upload(folder: Path) -> None:
    headers = Headers({"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "100"})
    space = storage.UploadSpace(storage.Files(folder), max_bytes=10**9)
    options = {"most_files": 1, "max_file_size": 10**9, "upload_dir": folder}
    await StrictMultiPartParser(headers, body(), space=space, **options).parse()


if __name__ == "__main__":
    storage.FREE_BYTES = 0
    try:
        asyncio.run(upload(Path(sys.argv[1])))
    except HTTPException as error:
        print(error.status_code, error.detail, sorted(path.name for path in Path(sys.argv[1]).iterdir()))
