"""``/schnittstellen/sensorthings/``: what SensorThings is, and a form to try it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from quartier.portal import sensors
from quartier.portal.context import cities
from quartier.portal.sensorthings.ask import MAXIMUM_LENGTH, Question, ask, base_url
from quartier.portal.sensorthings.examples import examples, series_to_show, words
from quartier.portal.sensorthings.programs import programs
from quartier.portal.sensorthings.show import shown, try_address


@never_cache
@require_safe
def try_sensorthings(request: HttpRequest) -> HttpResponse:
    """The page; ``?anfrage=Things?$top=3&stadt=dortmund`` asks."""
    slugs = {city.slug for city in cities()}
    city = request.GET.get("stadt", "")
    city = city if city in slugs else ""
    series = series_to_show(city)
    offered = examples(series)
    broker, port = sensors.broker()
    typed = request.GET.get("anfrage", "").strip()
    question = Question.of(typed or offered[0].text, city)
    base = base_url(request)
    answer = ask(request, question)
    found = shown(request, question, answer) if answer else None
    context: dict[str, Any] = {
        "question": question,
        "city": question.city,
        "maximum_length": MAXIMUM_LENGTH,
        "address": base + question.address,
        "path": question.address,
        "found": found,
        "words": [
            {
                "name": one.name,
                "here": one.here,
                "meaning": one.meaning,
                "address": try_address(one.text, city),
            }
            for one in words()
        ],
        "examples": [
            (one, try_address(one.text, question.city), one.text == question.text) for one in offered
        ],
        "programs": programs(question, base, found.shape if found else "list", (broker, port)),
        "service": base + question.service,
        "series": str(series.pk) if series else "1",
        "broker": broker,
        "broker_port": str(port),
        "openapi": f"{question.service}/openapi.json",
    }
    return render(request, "portal/pages/sensorthings.html", context)
