"""Django's settings for processes that serve no pages: without the applications that only pages need, which would take
seven megabytes in each of them. The models, and so the tables, are the same where it matters to them.
"""

from __future__ import annotations

from quartier.settings import *  # noqa: F403 (this is how Django's settings are varied)
from quartier.settings import INSTALLED_APPS as _ALL

_ONLY_PAGES = (
    "quartier.desk",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "django_htmx",
)

INSTALLED_APPS = [app for app in _ALL if not app.startswith(_ONLY_PAGES)]
