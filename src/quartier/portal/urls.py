"""Addresses of the portal. The data pages have theirs in ``data_urls``."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from quartier.portal import account_views, coverage_views, map_views, open_data_views, sensor_views, views
from quartier.portal.sensorthings.views import try_sensorthings

urlpatterns: list[URLPattern | URLResolver] = [
    path("impressum/", views.imprint, name="imprint"),
    path("datenschutz/", views.privacy, name="privacy"),
    path("barrierefreiheit/", views.accessibility, name="accessibility"),
    path("leichte-sprache/", views.easy_language, name="easy-language"),
    path("feedback/", views.feedback, name="feedback"),
    path("feedback/danke/", views.feedback_done, name="feedback-done"),
    path("daten/", open_data_views.open_data, name="open-data"),
    path("funknetz/", coverage_views.radio_coverage, name="coverage"),
    path("funknetz/abdeckung.geojson", coverage_views.coverage_geojson, name="coverage-geojson"),
    path("schnittstellen/sensorthings/", try_sensorthings, name="sensorthings"),
    path("karte/grundkarte.json", map_views.base_map, name="base-map"),
    path("karte/bezirke.json", map_views.districts, name="districts"),
    path("mitmachen/sensor/", sensor_views.connect_sensor, name="connect-sensor"),
    path("mitmachen/sensor/<slug:municipality>/<slug:key>/", sensor_views.sensor, name="sensor"),
    path(
        "mitmachen/sensor/<slug:municipality>/<slug:key>/stand/",
        sensor_views.sensor_status,
        name="sensor-status",
    ),
    path(
        "mitmachen/sensor/<slug:municipality>/<slug:key>/abmelden/",
        sensor_views.retire_sensor,
        name="sensor-retire",
    ),
    path("konto/", account_views.account, name="account"),
    path("konto/schluessel/neu/", account_views.create_token, name="token-create"),
    path("konto/schluessel/", account_views.token_created, name="token-created"),
    path("konto/schluessel/<int:token_id>/widerrufen/", account_views.revoke_token, name="token-revoke"),
    path("", include("quartier.portal.data_urls")),
]
