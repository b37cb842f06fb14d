"""Plain words for the codes that machines write: reasons of refusal, checks, rights, actions.

A code that has no words yet is shown as it is: a new reason must never make a page fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Words:
    """``title`` says it in a line, ``advice`` what it means and what to do."""

    title: Text
    advice: Text = ""


# What the codec sandbox calls its faults (``intake.codecs.calls.Reason``); the fault's own text follows it.
CODEC_FAULTS: Final[dict[str, Text]] = {
    "script_error": _("Fehler im Codec"),
    "no_function": _("dem Codec fehlt die Funktion"),
    "codec_reported": _("der Codec meldet"),
    "bad_output": _("unbrauchbare Antwort des Codecs"),
    "time_limit": _("Rechenzeit überschritten"),
    "memory_limit": _("Speicher überschritten"),
    "stack_limit": _("zu viele verschachtelte Aufrufe"),
    "output_limit": _("Antwort zu groß"),
    "depth_limit": _("Antwort zu tief verschachtelt"),
    "input_limit": _("Eingabe zu groß"),
    "suspended": _("Codec ausgesetzt"),
    "worker_lost": _("der Prozess des Codecs brach ab"),
}

REASONS: Final[dict[str, Words]] = {
    "unknown_device": Words(
        _("Unbekanntes Gerät"),
        _(
            "Unter dieser Kennung ist an der Quelle kein Gerät angelegt. Legen Sie es an und versuchen Sie es erneut."
        ),
    ),
    "device_off": Words(
        _("Gerät ist abgeschaltet"),
        _("Das Gerät steht hier auf „nicht in Betrieb“. Schalten Sie es ein, wenn es wieder messen soll."),
    ),
    "not_deployed": Words(
        _("Gerät steht an keinem Ort"),
        _(
            "Zu der Zeit der Messung stand das Gerät an keinem Ort. Tragen Sie ein, wo und seit wann es steht."
        ),
    ),
    "no_codec": Words(
        _("Kein Codec"),
        _("Dem Gerät fehlt ein Typ mit Codec; ohne ihn sind die Bytes nicht lesbar."),
    ),
    "undecodable": Words(
        _("Codec konnte nicht lesen"),
        _("Der Codec brach ab oder meldete einen Fehler. Probieren Sie ihn mit dieser Nachricht aus."),
    ),
    "no_payload": Words(
        _("Keine Nutzdaten"),
        _("Die Nachricht enthält weder Bytes noch fertige Felder."),
    ),
    "bad_mapping": Words(
        _("Zuordnung fehlerhaft"),
        _("Eine Zeile der Zuordnung ist nicht brauchbar, meist wegen der Einheit."),
    ),
    "no_known_field": Words(
        _("Kein bekanntes Feld"),
        _("Keines der zugeordneten Felder kommt vor. Ergänzen Sie die Zuordnung des Gerätetyps."),
    ),
    "bad_value": Words(
        _("Unbrauchbarer Wert"),
        _("Ein Feld enthält keine Zahl oder etwas, das nicht zur Messgröße passt."),
    ),
    "bad_unit": Words(
        _("Unpassende Einheit"),
        _("Die angegebene Einheit lässt sich nicht in die der Messgröße umrechnen."),
    ),
    "bad_time": Words(
        _("Unlesbare Zeit"),
        _("Die Zeitangabe der Nachricht ist keine Zeit."),
    ),
    "unknown_kind": Words(
        _("Unbekannte Art von Nachricht"),
        _("Für Nachrichten dieser Art gibt es keinen Leser."),
    ),
    "not_json": Words(
        _("Kein JSON"),
        _("Die Nachricht ist kein lesbares JSON."),
    ),
    "not_csv": Words(
        _("Keine Tabelle"),
        _("Die Nachricht sollte eine CSV-Tabelle sein und ist keine."),
    ),
    "too_large": Words(
        _("Zu groß"),
        _("Die Nachricht oder ein Teil von ihr ist größer als erlaubt."),
    ),
    "missing_field": Words(
        _("Feld fehlt"),
        _("Der Nachricht fehlt ein Feld, ohne das sie nicht zu lesen ist."),
    ),
    "wrong_type": Words(
        _("Feld von falscher Art"),
        _("Ein Feld ist zum Beispiel ein Text, wo ein Objekt oder eine Zahl stehen muss."),
    ),
    "unknown_field": Words(
        _("Unbekanntes Feld"),
        _("Die Nachricht nennt ein Feld, das diese Form nicht kennt. Vielleicht ist es falsch geschrieben."),
    ),
    "unknown_property": Words(
        _("Unbekannte Messgröße"),
        _(
            "Die Nachricht nennt eine Messgröße, die es hier nicht gibt. Vielleicht ist sie falsch geschrieben."
        ),
    ),
    "sensorthings_invalid": Words(
        _("SensorThings: unbrauchbare Nachricht"),
        _(
            "Eine über MQTT gesendete Nachricht ließ sich nicht speichern; die technische Angabe nennt die Stelle."
        ),
    ),
    "sensorthings_rights": Words(
        _("SensorThings: Recht fehlt"),
        _("Wer die Nachricht über MQTT sandte, darf an dieses Ziel nicht schreiben."),
    ),
    "bad_payload": Words(
        _("Nutzdaten unlesbar"),
        _("Die Bytes der Nachricht sind weder als Base64 noch hexadezimal richtig geschrieben."),
    ),
    "unknown_event": Words(
        _("Unbekanntes Ereignis"),
        _("Der Netzserver hat ein Ereignis gesendet, dessen Art hier unbekannt ist."),
    ),
    "simulated": Words(
        _("Vom Netzserver simuliert"),
        _("Jemand hat diese Nachricht im Netzserver zum Ausprobieren erzeugt; gemessen wurde nichts."),
    ),
    "suspended": Words(
        _("Codec ausgesetzt"),
        _(
            "Der Codec überschritt immer wieder seine Zeit und ruhte. Versuchen Sie es erneut, wenn er berichtigt ist."
        ),
    ),
    "worker_lost": Words(
        _("Prozess des Codecs verloren"),
        _("Der Prozess, in dem der Codec lief, endete zweimal. Versuchen Sie es erneut."),
    ),
    "internal_error": Words(
        _("Fehler in der Verarbeitung"),
        _("Das ist ein Fehler dieser Software. Bitte melden Sie ihn mit der technischen Angabe."),
    ),
}

CHECKS: Final[dict[str, Words]] = {
    "range": Words(
        _("Unmöglicher Wert"), _("Der Wert liegt außerhalb dessen, was diese Messgröße annehmen kann.")
    ),
    "persistence": Words(
        _("Wert steht still"),
        _("Der Wert hat sich auffällig lange nicht verändert. Vielleicht hängt der Sensor."),
    ),
    "spike": Words(
        _("Sprung"), _("Der Wert springt stärker, als die Messungen davor und danach erwarten lassen.")
    ),
    "spatial": Words(
        _("Weicht von den Nachbarn ab"), _("Der Wert unterscheidet sich stark von den Stationen in der Nähe.")
    ),
}

FEEDBACK_KINDS: Final[dict[str, Text]] = {
    "general": _("Allgemeines"),
    "error": _("Ein falscher Wert oder Fehler"),
    "barrier": _("Eine Barriere"),
    "idea": _("Eine Idee"),
}

RIGHTS: Final[dict[str, Text]] = {
    "desk:enter": _("das Amt betreten"),
    "audit:read": _("Protokoll lesen, Personen und Rollen verwalten"),
    "observations:write": _("eigene Messwerte senden"),
    "things:read": _("auch nicht öffentliche Orte lesen"),
    "devices:write": _("Geräte anlegen und ändern"),
    "sources:write": _("Quellen und Datensätze einrichten"),
    "quality:write": _("Qualitätsbefunde bestätigen oder verwerfen"),
    "messages:read": _("Rohnachrichten und abgelehnte Nachrichten sehen"),
    "codecs:write": _("Codecs und Zuordnungen ändern, Nachrichten erneut verarbeiten"),
    "lorawan:write": _("Gateways, Geräteprofile und Partnernetze einrichten"),
    "lorawan:send": _("Nachrichten an Geräte senden"),
}

ACTIONS: Final[dict[str, Text]] = {
    "device.create": _("Gerät angelegt"),
    "lorawan.device.create": _("Funkgerät angelegt"),
    "lorawan.device.change": _("Funkgerät geändert"),
    "lorawan.device.keys": _("Schlüssel eines Funkgeräts ersetzt"),
    "lorawan.device.move": _("Funkgerät abgegeben"),
    "lorawan.devices.import": _("Funkgeräte eingelesen"),
    "lorawan.devices.export": _("Funkgeräte ausgegeben"),
    "lorawan.gateway.create": _("Gateway angelegt"),
    "lorawan.gateway.change": _("Gateway geändert"),
    "lorawan.gateway.token": _("Zugangsschlüssel eines Gateways gemacht"),
    "lorawan.update.create": _("Update für Stationen hochgeladen"),
    "lorawan.update.change": _("Update für Stationen geändert"),
    "lorawan.update.delete": _("Update für Stationen gelöscht"),
    "lorawan.update.assign": _("Update einem Gateway zugeordnet"),
    "lorawan.update.again": _("Update noch einmal angeboten"),
    "lorawan.profile.create": _("Geräteprofil angelegt"),
    "lorawan.profile.change": _("Geräteprofil geändert"),
    "lorawan.group.create": _("Gruppe angelegt"),
    "lorawan.group.change": _("Gruppe geändert"),
    "lorawan.downlink.enqueue": _("Nachricht an ein Gerät aufgegeben"),
    "lorawan.downlink.cancel": _("Nachricht an ein Gerät zurückgezogen"),
    "lorawan.peer.create": _("Partnernetz verbunden"),
    "lorawan.peer.change": _("Partnernetz geändert"),
    "lorawan.peer.token": _("Anmeldung für ein Partnernetz gemacht"),
    "lorawan.agreement.propose": _("Vereinbarung vorgeschlagen"),
    "lorawan.agreement.sign": _("Vereinbarung unterschrieben"),
    "lorawan.agreement.their_signature": _("Unterschrift der anderen Seite eingetragen"),
    "lorawan.agreement.end": _("Vereinbarung beendet"),
    "devices.import": _("Geräte eingelesen"),
    "sensor.register": _("Sensor angemeldet"),
    "sensor.retire": _("Sensor abgemeldet"),
    "source.create": _("Quelle angelegt"),
    "source.change": _("Quelle geändert"),
    "token.create": _("Zugangsschlüssel angelegt"),
    "token.revoke": _("Zugangsschlüssel widerrufen"),
    "device.change": _("Gerät geändert"),
    "device.move": _("Gerät umgesetzt"),
    "device_type.create": _("Gerätetyp angelegt"),
    "device_type.change": _("Gerätetyp geändert"),
    "thing.create": _("Ort angelegt"),
    "thing.change": _("Ort geändert"),
    "source.enable": _("Quelle eingeschaltet"),
    "source.disable": _("Quelle abgeschaltet"),
    "role.grant": _("Rolle erteilt"),
    "role.revoke": _("Rolle entzogen"),
    "feedback.answered": _("Rückmeldung erledigt"),
    "feedback.reopened": _("Rückmeldung wieder geöffnet"),
    "dataset.change": _("Datensatz geändert"),
    "codec.save": _("Codec gespeichert"),
    "mapping.save": _("Zuordnung gespeichert"),
    "refused.retry": _("abgelehnte Nachrichten erneut versucht"),
    "refused.resolve": _("abgelehnte Nachrichten abgehakt"),
    "replay.start": _("Nachspielen begonnen"),
    "finding.confirmed": _("Befund bestätigt"),
    "finding.dismissed": _("Befund verworfen"),
    "finding.note": _("Notiz zum Befund"),
    "sensorthings.create": _("über SensorThings angelegt"),
    "sensorthings.change": _("über SensorThings geändert"),
    "sensorthings.delete": _("über SensorThings gelöscht"),
}


def right_in_words(action: str) -> Text:
    """What a right lets somebody do."""
    return RIGHTS.get(action, action)


def reason(code: str) -> Words:
    """The words for a reason of refusal; an unknown code speaks for itself."""
    return REASONS.get(code, Words(code))


def check(code: str) -> Words:
    """The words for a quality check; an unknown code speaks for itself."""
    return CHECKS.get(code, Words(code))
