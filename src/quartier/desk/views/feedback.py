"""What visitors wrote: read, answer by e-mail, tick off."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from quartier.cities.models import Feedback
from quartier.cities.rules import Actor
from quartier.desk import domain, words
from quartier.desk.access import desk_page, render
from quartier.desk.forms.feedback import FeedbackFilterForm
from quartier.desk.queries import feedback
from quartier.desk.views.common import back, page_of, said


@require_safe
@desk_page()
def feedback_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Messages, newest first."""
    form = FeedbackFilterForm(request.GET)
    context = page_of(request, feedback.filtered(actor, kind=form.kind, state=form.state), 25)
    context |= {
        "form": form,
        "query": request.GET.urlencode(),
        "rows": [(one, words.FEEDBACK_KINDS.get(one.kind, one.kind)) for one in context["page"].object_list],
        "here": request.get_full_path(),
    }
    return render(request, actor, "desk/feedback.html", context)


@require_POST
@desk_page()
def feedback_answered(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Tick a message off, or open it again."""
    message = get_object_or_404(Feedback.objects.select_related("municipality"), pk=pk)
    answered = request.POST.get("beantwortet") == "1"
    domain.mark_feedback(actor, message, answered=answered)
    said(request, _("Die Rückmeldung ist erledigt.") if answered else _("Die Rückmeldung ist wieder offen."))
    return redirect(back(request, "desk:feedback"))
