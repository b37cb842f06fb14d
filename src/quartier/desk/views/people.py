"""People and roles, the audit log, data sets."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.models import Municipality, RoleAssignment
from quartier.cities.rules import ACTIONS_OF_ROLE, Actor, NotAllowed
from quartier.desk import domain, words
from quartier.desk.access import AUDIT, DATASETS, PEOPLE, desk_page, everywhere, render, require, within
from quartier.desk.forms.people import AuditFilterForm, DatasetForm, GrantForm, PeopleFilterForm
from quartier.desk.queries import people
from quartier.desk.views.common import complained, keyset_address, keyset_key, page_of, said
from quartier.usage.models import Dataset


def _people_page(
    request: HttpRequest, actor: Actor, grant: GrantForm | None = None, *, status: int = 200
) -> HttpResponse:
    form = PeopleFilterForm(request.GET)
    text = form.cleaned_data.get("q", "").strip() if form.is_valid() else ""
    context: dict[str, Any] = {
        "form": form,
        "grant": grant or GrantForm(actor),
        "roles": [
            (
                label,
                [words.right_in_words(action) for action in sorted(ACTIONS_OF_ROLE.get(role, frozenset()))],
            )
            for role, label in RoleAssignment._meta.get_field("role").flatchoices
        ],
        **page_of(request, people.people(actor, text)),
    }
    return render(request, actor, "desk/people.html", context, status=status)


@require_safe
@desk_page(PEOPLE)
def people_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Who holds which role in the actor's cities."""
    return _people_page(request, actor)


@require_POST
@desk_page(PEOPLE)
def role_grant(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Give a role."""
    form = GrantForm(actor, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        municipality: Municipality | None = data["municipality"]
        try:
            domain.grant_role(actor, data["email"], data["role"], municipality)
        except domain.DeskError as error:
            form.refuse(error)
        else:
            said(request, _("%(name)s hat die Rolle jetzt.") % {"name": data["email"]})
            return redirect("desk:people")
    return _people_page(request, actor, form, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(PEOPLE)
def role_revoke(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Take a role back, after a question."""
    assignment = get_object_or_404(RoleAssignment.objects.select_related("person", "municipality"), pk=pk)
    if assignment.municipality is not None:
        require(actor, PEOPLE, assignment.municipality)
    elif not everywhere(actor, PEOPLE):
        raise NotAllowed(PEOPLE)
    if request.method == "POST":
        person = assignment.person
        try:
            domain.revoke_role(actor, assignment)
        except domain.DeskError as error:
            complained(request, str(error))
        else:
            said(request, _("%(name)s hat die Rolle nicht mehr.") % {"name": person})
        return redirect("desk:people")
    return render(request, actor, "desk/role_revoke.html", {"assignment": assignment})


@require_safe
@desk_page(AUDIT)
def audit_log(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What people did, newest first."""
    form = AuditFilterForm(actor, request.GET)
    rows, following = people.page(people.audit(actor, form.wanted()), keyset_key(request.GET.get("vor", "")))
    context = {
        "form": form,
        "rows": rows,
        "next": keyset_address(request.GET, following),
        "later_page": "vor" in request.GET,
        "query": request.GET.urlencode(),
    }
    return render(request, actor, "desk/audit.html", context)


@require_safe
@desk_page(DATASETS)
def dataset_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The data sets of the actor's cities."""
    rows = Dataset.objects.filter(within(actor, DATASETS)).select_related("municipality")
    return render(request, actor, "desk/datasets.html", {"rows": list(rows)})


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DATASETS)
def dataset_edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Title, licence, attribution, openness."""
    dataset = get_object_or_404(Dataset.objects.select_related("municipality"), pk=pk)
    require(actor, DATASETS, dataset.municipality)
    posted = request.method == "POST"
    form = DatasetForm(
        request.POST if posted else None,
        initial={name: getattr(dataset, name) for name in DatasetForm.base_fields},
    )
    if posted and form.is_valid():
        domain.save_dataset(actor, dataset, **form.cleaned_data)
        said(request, _("Gespeichert."))
        return redirect("desk:datasets")
    context = {"dataset": dataset, "form": form}
    return render(request, actor, "desk/dataset.html", context, status=422 if form.errors else 200)
