"""What every page's template may use."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from quartier.config import config


def page(request: HttpRequest) -> dict[str, Any]:
    """Context for all templates."""
    return {"simulated": config().simulated}
