"""Addresses of the radio network's pages, under /amt/funknetz/."""

from __future__ import annotations

from django.urls import path

from quartier.desk.views.radio import (
    devices,
    downlinks,
    frames,
    gateways,
    overview,
    peers,
    profiles,
    stations,
    transfer,
)

urlpatterns = [
    path("", overview.index, name="radio"),
    path("gateways/", gateways.gateway_list, name="radio-gateways"),
    path("gateways/neu/", gateways.gateway_new, name="radio-gateway-new"),
    path("gateways/nr/<int:pk>/", gateways.gateway_by_id, name="radio-gateway-by-id"),
    path("gateways/<slug:eui>/", gateways.gateway_detail, name="radio-gateway"),
    path("gateways/<slug:eui>/bearbeiten/", gateways.gateway_edit, name="radio-gateway-edit"),
    path("gateways/<slug:eui>/schalten/", gateways.gateway_switch, name="radio-gateway-switch"),
    path("gateways/<slug:eui>/schluessel/", gateways.gateway_token, name="radio-gateway-token"),
    path("gateways/<slug:eui>/fernverwaltung/", stations.station, name="radio-gateway-station"),
    path(
        "gateways/<slug:eui>/fernverwaltung/wechseln/",
        stations.station_roll,
        name="radio-gateway-station-roll",
    ),
    path("geraete/", devices.device_list, name="radio-devices"),
    path("geraete/neu/", devices.device_new, name="radio-device-new"),
    path("geraete/einlesen/", transfer.device_import, name="radio-device-import"),
    path("geraete/<slug:slug>.<slug:form>", transfer.device_export, name="radio-device-export"),
    path("geraete/<slug:eui>/", devices.device_detail, name="radio-device"),
    path("geraete/<slug:eui>/bearbeiten/", devices.device_edit, name="radio-device-edit"),
    path("geraete/<slug:eui>/schluessel/", devices.device_keys, name="radio-device-keys"),
    path("geraete/<slug:eui>/schalten/", devices.device_switch, name="radio-device-switch"),
    path("geraete/<slug:eui>/abgeben/", devices.device_move, name="radio-device-move"),
    path("geraete/<slug:eui>/senden/", downlinks.downlink_new, name="radio-downlink-new"),
    path("nachrichten/<int:pk>/", downlinks.downlink_detail, name="radio-downlink"),
    path("nachrichten/<int:pk>/stand/", downlinks.downlink_state, name="radio-downlink-state"),
    path("nachrichten/<int:pk>/zurueckziehen/", downlinks.downlink_cancel, name="radio-downlink-cancel"),
    path("protokoll/", frames.frame_log, name="radio-frames"),
    path("profile/", profiles.profile_list, name="radio-profiles"),
    path("profile/neu/", profiles.profile_new, name="radio-profile-new"),
    path("profile/<slug:key>/", profiles.profile_detail, name="radio-profile"),
    path("gruppen/", profiles.group_list, name="radio-groups"),
    path("gruppen/neu/", profiles.group_new, name="radio-group-new"),
    path("gruppen/<int:pk>/", profiles.group_detail, name="radio-group"),
    path("partner/", peers.peer_list, name="radio-peers"),
    path("partner/neu/", peers.peer_edit, name="radio-peer-new"),
    path("partner/<slug:key>/", peers.peer_detail, name="radio-peer"),
    path("partner/<slug:key>/bearbeiten/", peers.peer_edit, name="radio-peer-edit"),
    path("partner/<slug:key>/schluessel/", peers.peer_token, name="radio-peer-token"),
    path("partner/<slug:key>/vereinbarungen/neu/", peers.agreement_new, name="radio-agreement-new"),
    path("partner/<slug:key>/vereinbarungen/<int:pk>/", peers.agreement_detail, name="radio-agreement"),
    path("partner/<slug:key>/<slug:day>/", peers.ledger_day, name="radio-ledger-day"),
    path("datenschutz/", peers.device_trail, name="radio-trail"),
]
