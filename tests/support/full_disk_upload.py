"""`python -m tests.support.full_disk_upload FOLDER upload|desk`: 3 MB onto a smaller disk, past the check for room, as an upload
or as a picture with its question.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route

from demo import storage
from demo.desk import Desk
from demo.uploads import PictureParser, StrictMultiPartParser


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


async def ask_desk(folder: Path) -> None:
    """Its length is that of the first picture that is not kept in memory."""
    desk = Desk(1, 1, 10**9, storage.UploadSpace(storage.Files(folder), max_bytes=10**9))
    app = Starlette(routes=[Route("/", desk.taking(lambda picture, form: "answered"), methods=["POST"])])
    app.auth = None
    length = PictureParser.spool_max_size + 1
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(length)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo") as http:
        answer = await http.post("/", content=body(), headers=headers)
    raise HTTPException(answer.status_code, answer.json()["detail"])


if __name__ == "__main__":
    storage.FREE_BYTES = 0
    try:
        asyncio.run({"upload": upload, "desk": ask_desk}[sys.argv[2]](Path(sys.argv[1])))
    except HTTPException as error:
        print(error.status_code, error.detail, sorted(path.name for path in Path(sys.argv[1]).iterdir()))
