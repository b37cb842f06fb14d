"""Quality: findings to decide, and stations that are silent, drifting or implausible."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.desk import domain, sparkline, words
from quartier.desk.access import QUALITY, desk_page, render, require
from quartier.desk.forms.quality import DecisionForm, FindingFilterForm
from quartier.desk.queries import quality
from quartier.desk.templatetags.desk import name_of
from quartier.desk.views.common import back, complained, page_of, said
from quartier.intake.models import QualityFinding
from quartier.twin.flags import explain
from quartier.twin.models import ObservedProperty
from quartier.twin.properties import Limits, LimitsError


def _explained(finding: QualityFinding) -> list[str]:
    """The reason in sentences, with the limits of the property."""
    observed = finding.series.observed_property
    flag = domain.CHECK_FLAGS.get(finding.check_name)
    if flag is None:
        return []
    try:
        limits = Limits.from_json(observed.limits, unit=observed.unit)
    except LimitsError:
        limits = Limits(unit=observed.unit)
    return explain(int(flag), get_language() or "de", limits, finding.detail)


@require_safe
@desk_page()
def finding_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Findings with a small picture each, to decide one by one or several at once."""
    form = FindingFilterForm(actor, request.GET)
    context: dict[str, Any] = page_of(request, quality.findings(actor, form.wanted()), quality.PAGE_SIZE)
    findings = list(context["page"].object_list)
    values = quality.around(findings)
    context |= {
        "form": form,
        "decision": DecisionForm(),
        "rows": [
            {
                "finding": one,
                "words": words.check(one.check_name),
                "spark": sparkline.draw(values[one.pk], one.first_time, one.last_time),
                "may_decide": actor.may(QUALITY, one.municipality_id),
            }
            for one in findings
        ],
        "may_decide": actor.may(QUALITY),
        "query": request.GET.urlencode(),
        "here": request.get_full_path(),
    }
    return render(request, actor, "desk/findings.html", context)


@require_safe
@desk_page()
def finding_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """One finding: its readings as a picture and a table, and what the neighbours said."""
    finding = get_object_or_404(
        QualityFinding.objects.select_related(
            "municipality",
            "series__thing__municipality",
            "series__observed_property",
            "series__device",
            "decided_by",
        ),
        pk=pk,
    )
    require(actor, "desk:enter", finding.municipality)
    values = quality.around([finding])[finding.pk]
    context = {
        "finding": finding,
        "words": words.check(finding.check_name),
        "sentences": _explained(finding),
        "spark": sparkline.draw(values, finding.first_time, finding.last_time, width=800, height=180),
        "values": values[-100:],
        "since": values[0][0] if values else None,
        "until": values[-1][0] if values else None,
        "lowest": min((value for _time, value, _flags in values if value is not None), default=None),
        "highest": max((value for _time, value, _flags in values if value is not None), default=None),
        "nearby": quality.nearby(finding),
        "may_decide": actor.may(QUALITY, finding.municipality_id),
        "decision": DecisionForm(),
    }
    return render(request, actor, "desk/finding.html", context)


@require_POST
@desk_page(QUALITY)
def decide(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Confirm or dismiss the chosen findings, with a note."""
    form = DecisionForm(request.POST)
    ids = [int(text) for text in request.POST.getlist("id") if text.isdecimal()][: quality.PAGE_SIZE * 4]
    findings = list(
        QualityFinding.objects.filter(pk__in=ids)
        .select_related("municipality", "series__thing")
        .order_by("pk")
    )
    target = back(request, "desk:findings")
    if not findings or not form.is_valid():
        complained(request, _("Bitte wählen Sie mindestens einen Befund und eine Entscheidung."))
        return redirect(target)
    for finding in findings:
        require(actor, QUALITY, finding.municipality)
    readings = domain.decide_findings(actor, findings, form.cleaned_data["state"], form.cleaned_data["note"])
    said(
        request,
        ngettext("%(n)d Befund entschieden", "%(n)d Befunde entschieden", len(findings))
        % {"n": len(findings)}
        + ngettext(" (%(n)d Messwert).", " (%(n)d Messwerte).", readings) % {"n": readings},
    )
    return redirect(target)


@require_safe
@desk_page()
def stations(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Silent, drifting, implausible: three lists on one page."""
    now = timezone.now()
    properties = {
        one.slug: one for one in ObservedProperty.objects.filter(slug__in=list(quality.DRIFT_LIMITS))
    }
    slug = request.GET.get("messgroesse", "air_temperature")
    if slug not in quality.DRIFT_LIMITS:
        slug = "air_temperature"
    drifts = quality.drift(actor, slug, now)
    everything = request.GET.get("alle") == "1"
    context = {
        "silent": quality.silent_things(actor),
        "implausible": quality.implausible(actor, now),
        "property": properties.get(slug),
        "properties": [
            {"label": name_of(one), "address": f"?messgroesse={one.slug}#drift", "current": one.slug == slug}
            for one in properties.values()
        ],
        "limit": quality.DRIFT_LIMITS[slug],
        "drifts": drifts if everything else [row for row in drifts if row.notable],
        "compared": len(drifts),
        "everything": everything,
        "slug": slug,
        "neighbours_at_least": quality.NEIGHBOURS_AT_LEAST,
        "neighbours_at_most": quality.NEIGHBOURS_AT_MOST,
        "radius_km": quality.RADIUS_KM,
        "hours_at_least": quality.HOURS_AT_LEAST,
        "share": quality.IMPLAUSIBLE_SHARE,
    }
    return render(request, actor, "desk/stations.html", context)
