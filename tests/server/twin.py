"""One engine, two applications: ours and stock vLLM's, so that tests can ask both the same thing.

python -m tests.server.twin OUR_PORT STOCK_PORT DATABASE_URL
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import nullcontext

from metaalign_server.cli import prepare_environment
from metaalign_server.serving.logs import configure_logging
from metaalign_server.settings import Settings

KEY, USER_KEY = "twin-key", "twin-user-key"
MODEL = "checkpoints/metaalign-demo"


async def serve(port: int, stock_port: int, database_url: str) -> None:
    """Serve until killed."""
    import uvicorn
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app as build_stock_app

    from metaalign_server.engine.flags import parse_engine_args
    from metaalign_server.engine.installation import install
    from metaalign_server.engine.process import fill_state, running_engine
    from metaalign_server.platform.startup import open_platform
    from metaalign_server.serving.app import create_app
    from metaalign_server.serving.gate import Gate

    settings = Settings(
        _env_file=None,
        model=MODEL,
        port=port,
        api_keys=f"{KEY},{USER_KEY}:inference",
        database_url=database_url,
        feedback=True,
        max_body_bytes=256 * 1024,
    )
    args = parse_engine_args(settings, [])
    async with open_platform(settings) as platform, running_engine(args) as engine:
        ours = create_app()
        await fill_state(engine, ours.state, args)
        gate = Gate(ours, await install(ours.state, settings, platform), platform)
        tasks = await engine.get_supported_tasks()
        stock = build_stock_app(args, tasks, engine.model_config)
        await init_app_state(engine, stock.state, args, tasks)
        servers = [
            uvicorn.Server(uvicorn.Config(app, port=number, log_config=None, access_log=False))
            for app, number in ((gate, port), (stock, stock_port))
        ]
        stock.state.server = servers[1]
        configure_logging("json", "info")  # stock vLLM's application has changed the root logger's level
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        for server in servers:
            server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # it would end us before the engine
        serving = [asyncio.create_task(server.serve()) for server in servers]
        working = asyncio.create_task(platform.run())
        await stop.wait()
        working.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)


if __name__ == "__main__":
    prepare_environment()
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
