"""Workers that tell progress: one server on every address of the loopback that a pod was given."""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from strop_api.result import PROGRESS_PATH, PROGRESS_PORT

FIRST = (127, 90)
STEP_SECONDS = 60.0
"""Each worker gains 5 points in this time."""


class Supervisors:
    """Answers /progress for many pods, in a thread of its own."""

    def __init__(self, runs: Sequence[str]) -> None:
        self.addresses = [f"{FIRST[0]}.{FIRST[1]}.{i // 250}.{i % 250 + 1}" for i in range(len(runs))]
        self._runs = dict(zip(self.addresses, runs, strict=True))
        self.asked = 0
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the progress server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application()
        application.router.add_get(PROGRESS_PATH, self._answer)
        runner = web.AppRunner(application, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "0.0.0.0", PROGRESS_PORT).start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        step = int((time.monotonic() - self._began) / STEP_SECONDS) + 1
        run = self._runs.get(request.host.partition(":")[0], "unknown")
        progress = {"stage": "int8", "percent": min(99, 5 * step), "message": "calibrating"}
        return web.Response(text=json.dumps({"runId": run, "sequence": step, "progress": progress}))
