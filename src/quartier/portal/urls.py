"""Addresses of the portal. The data pages have theirs in ``data_urls``."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import URLPattern, URLResolver, include, path

from quartier.portal import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("impressum/", views.imprint, name="imprint"),
    path("datenschutz/", views.privacy, name="privacy"),
    path("barrierefreiheit/", views.accessibility, name="accessibility"),
    path("leichte-sprache/", views.easy_language, name="easy-language"),
    path("feedback/", views.imprint, name="feedback"),
    path("daten/", views.imprint, name="open-data"),
    path("konto/", views.imprint, name="account"),
]
if find_spec("quartier.portal.data_urls"):
    urlpatterns.append(path("", include("quartier.portal.data_urls")))
