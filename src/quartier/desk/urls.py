"""Addresses of the desk, under /amt/."""

from __future__ import annotations

from django.urls import include, path

from quartier.desk.views import (
    codecs,
    devices,
    feedback,
    imports,
    overview,
    people,
    quality,
    refused,
    replays,
    sources,
)

app_name = "desk"

urlpatterns = [
    path("", overview.index, name="overview"),
    path("geraete/", devices.device_list, name="devices"),
    path("geraete/export.csv", devices.device_export, name="device-export"),
    path("geraete/neu/", devices.device_new, name="device-new"),
    path("geraete/<int:pk>/", devices.device_detail, name="device"),
    path("geraete/<int:pk>/bearbeiten/", devices.device_edit, name="device-edit"),
    path("geraete/<int:pk>/umsetzen/", devices.device_move, name="device-move"),
    path("geraete/<int:pk>/nachricht/", refused.device_message, name="device-message"),
    path("orte/neu/", devices.thing_new, name="thing-new"),
    path("orte/<int:pk>/", devices.thing_edit, name="thing-edit"),
    path("geraete/einlesen/", imports.device_import, name="device-import"),
    path("quellen/", sources.source_list, name="sources"),
    path("quellen/neu/<slug:kind>/", sources.source_new, name="source-new"),
    path("quellen/<slug:key>/", sources.source_detail, name="source"),
    path("quellen/<slug:key>/bearbeiten/", sources.source_edit, name="source-edit"),
    path("quellen/<slug:key>/schalten/", sources.source_switch, name="source-switch"),
    path("nachrichten/", refused.message_list, name="refused"),
    path("nachrichten/erneut/", refused.retry, name="refused-retry"),
    path("nachrichten/<int:pk>/", refused.message_detail, name="refused-message"),
    path("codecs/", codecs.type_list, name="codecs"),
    path("codecs/neu/", codecs.type_new, name="device-type-new"),
    path("codecs/<slug:key>/", codecs.codec_edit, name="codec"),
    path("codecs/<slug:key>/zuordnung/", codecs.mapping_edit, name="mapping"),
    path("codecs/<slug:key>/versionen/", codecs.codec_versions, name="codec-versions"),
    path("codecs/<slug:key>/versionen/<int:version>/einsetzen/", codecs.codec_restore, name="codec-restore"),
    path("codecs/<slug:key>/typ/", codecs.type_edit, name="device-type"),
    path("nachspielen/", replays.replay_list, name="replays"),
    path("nachspielen/neu/", replays.replay_new, name="replay-new"),
    path("nachspielen/<int:pk>/", replays.replay_detail, name="replay"),
    path("nachspielen/<int:pk>/stand/", replays.replay_progress, name="replay-progress"),
    path("qualitaet/", quality.finding_list, name="findings"),
    path("qualitaet/stationen/", quality.stations, name="stations"),
    path("qualitaet/entscheiden/", quality.decide, name="findings-decide"),
    path("qualitaet/<int:pk>/", quality.finding_detail, name="finding"),
    path("rueckmeldungen/", feedback.feedback_list, name="feedback"),
    path("rueckmeldungen/<int:pk>/", feedback.feedback_answered, name="feedback-answered"),
    path("personen/", people.people_list, name="people"),
    path("personen/rolle/", people.role_grant, name="role-grant"),
    path("personen/rolle/<int:pk>/entziehen/", people.role_revoke, name="role-revoke"),
    path("protokoll/", people.audit_log, name="audit"),
    path("funknetz/", include("quartier.desk.urls_radio")),
    path("datensaetze/", people.dataset_list, name="datasets"),
    path("datensaetze/<int:pk>/", people.dataset_edit, name="dataset"),
]
