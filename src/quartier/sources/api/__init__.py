"""The machine interface of this room, mounted under ``/api``: webhooks of network servers, and the makers' way in."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount, Route

from quartier.sources.api import devices, makers, webhooks
from quartier.sources.api.answers import endpoint

routes: list[BaseRoute] = [
    Mount(
        "",
        routes=[
            Route("/sources/{key}/events", endpoint(webhooks.receive), methods=["POST"]),
            # The Things Stack appends a path of its own for each kind of message.
            Route("/sources/{key}/events/{rest:path}", endpoint(webhooks.receive), methods=["POST"]),
            Route("/observations", endpoint(makers.observations), methods=["POST"]),
            Route("/boxes/{box}/data", endpoint(makers.box_data), methods=["POST"]),
            Route("/boxes/{box}/{sensor}", endpoint(makers.box_measurement), methods=["POST"]),
            Route("/push-sensor-data", endpoint(makers.push_sensor_data), methods=["POST"]),
            Route("/push-sensor-data/", endpoint(makers.push_sensor_data), methods=["POST"]),
            Route("/push-sensor-data/{token}", endpoint(makers.push_sensor_data), methods=["POST"]),
            Route("/push-sensor-data/{token}/", endpoint(makers.push_sensor_data), methods=["POST"]),
            Route("/devices", endpoint(devices.register), methods=["POST"]),
            Route("/devices", endpoint(devices.own), methods=["GET"]),
        ],
        # Pages elsewhere may read; nobody's browser writes for him.
        middleware=[
            Middleware(
                CORSMiddleware, allow_origins=["*"], allow_methods=["GET"], allow_headers=["Authorization"]
            )
        ],
    )
]
