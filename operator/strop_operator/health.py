"""/metrics, /healthz and /readyz over HTTP."""

import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest

from strop_operator.metrics import Metrics


async def serve(port: int, metrics: Metrics, stuck: Callable[[], list[str]], waits: Callable[[], str]) -> web.AppRunner:
    """Start serving. /healthz turns 503 while `stuck` names a watch, /readyz also while `waits` says what for. The
    answer is to be cleaned up by the caller."""

    async def figures(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain")

    async def health(_: web.Request) -> web.Response:
        names = stuck()
        return web.Response(status=503 if names else 200, text=json.dumps({"stuck": names}) if names else "ok")

    async def readiness(request: web.Request) -> web.Response:
        if reason := waits():
            return web.Response(status=503, text=json.dumps({"waits": reason}))
        return await health(request)

    app = web.Application()
    app.router.add_get("/metrics", figures)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", readiness)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
