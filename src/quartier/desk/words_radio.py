"""Plain words for the radio network: what a frame is, what became of it, what device and network told each other.

As in :mod:`quartier.desk.words`, a code without words is shown as it is.
"""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

from quartier.desk.words import Text, Words

KINDS: Final[dict[str, Text]] = {
    "join_request": _("Anmeldung eines Geräts"),
    "join_accept": _("Antwort auf die Anmeldung"),
    "unconfirmed_up": _("Nachricht des Geräts"),
    "confirmed_up": _("Nachricht des Geräts, die eine Bestätigung will"),
    "unconfirmed_down": _("Nachricht an das Gerät"),
    "confirmed_down": _("Nachricht an das Gerät, die eine Bestätigung will"),
    "rejoin_request": _("Erneute Anmeldung"),
    "proprietary": _("Eigenes Format eines Herstellers"),
    "gateway": _("Meldung eines Gateways"),
    "empty": _("Leeres Paket"),
}

# Of frames that were heard. The kind of badge stands first.
HEARD: Final[dict[str, tuple[str, Words]]] = {
    "accepted": (
        "success",
        Words(_("angenommen"), _("Prüfsumme und Zähler stimmen; der Inhalt ist im Posteingang.")),
    ),
    "reset": (
        "warning",
        Words(
            _("Zähler neu begonnen"),
            _("Das Gerät zählt von vorn; sein Geräteeintrag erlaubt das. Der Inhalt ist im Posteingang."),
        ),
    ),
    "forwarded": (
        "info",
        Words(
            _("weitergegeben"),
            _("Das Gerät gehört zu einem Partnernetz; das Paket ging verschlüsselt dorthin."),
        ),
    ),
    "retransmission": (
        "info",
        Words(
            _("Wiederholung"),
            _("Das Gerät hat dasselbe Paket noch einmal gesendet. Es zählt nur einmal."),
        ),
    ),
    "malformed": (
        "warning",
        Words(
            _("unlesbar"), _("Das ist kein vollständiges LoRaWAN-Paket; meist eine Störung auf dem Funkweg.")
        ),
    ),
    "too_large": ("warning", Words(_("zu groß"), _("Die Meldung ist größer, als das Protokoll erlaubt."))),
    "unknown_gateway": (
        "warning",
        Words(
            _("unbekanntes Gateway"),
            _("Unter dieser EUI ist kein Gateway angemeldet. Melden Sie es an, wenn es zu Ihnen gehört."),
        ),
    ),
    "gateway_disabled": (
        "warning",
        Words(_("Gateway ist abgeschaltet"), _("Das Gateway steht hier auf „abgeschaltet“.")),
    ),
    "wrong_network": (
        "danger",
        Words(
            _("aus einem fremden Netz"),
            _("Die Meldung kam von einer Internetadresse, die für dieses Gateway nicht erlaubt ist."),
        ),
    ),
    "unauthorised": (
        "danger",
        Words(
            _("ohne gültigen Zugangsschlüssel"),
            _("Token oder Zertifikat fehlen oder sind falsch. Machen Sie einen neuen Zugangsschlüssel."),
        ),
    ),
    "unsupported": (
        "warning",
        Words(_("nicht unterstützt"), _("Diese Art von Meldung kennt Quartier nicht.")),
    ),
    "rate_limited": (
        "danger",
        Words(_("zu viele Meldungen"), _("Von dieser Adresse kam mehr, als ein Gateway senden kann.")),
    ),
    "crc": (
        "warning",
        Words(_("auf dem Funkweg beschädigt"), _("Die Prüfsumme der Übertragung stimmt nicht.")),
    ),
    "unknown_device": (
        "info",
        Words(
            _("unbekanntes Gerät"),
            _(
                "Die DevEUI ist hier nicht angemeldet, und kein Partnernetz wollte das Paket. Meist ein fremdes Gerät."
            ),
        ),
    ),
    "unknown_dev_addr": (
        "info",
        Words(
            _("fremde Adresse"),
            _("Keine unserer Funksitzungen hat diese Adresse, und kein Partnernetz wollte das Paket."),
        ),
    ),
    "wrong_mic": (
        "warning",
        Words(
            _("falsche Prüfsumme"),
            _(
                "Die Adresse kommt bei uns vor, aber kein Schlüssel passt: ein fremdes Gerät mit gleicher Adresse, oder"
                " die Schlüssel des Geräts sind falsch eingetragen."
            ),
        ),
    ),
    "replay": (
        "danger",
        Words(
            _("Zähler schon benutzt"),
            _(
                "Der Zähler ist kleiner als der letzte. Ein Gerät, das neu gestartet ist, muss sich neu anmelden."
            ),
        ),
    ),
    "dev_nonce_used": (
        "danger",
        Words(
            _("Anmeldung schon benutzt"),
            _(
                "Das Gerät hat diese Nummer (DevNonce) schon einmal benutzt. Es vergisst sie beim Neustart: Firmware"
                " prüfen oder die Schlüssel ersetzen."
            ),
        ),
    ),
    "counter_gap": (
        "danger",
        Words(
            _("Zähler springt zu weit"),
            _("Zwischen zwei Paketen fehlen mehr als erlaubt. Das Gerät muss sich neu anmelden."),
        ),
    ),
    "device_disabled": (
        "info",
        Words(_("Gerät ist abgeschaltet"), _("Das Gerät steht hier auf „abgeschaltet“.")),
    ),
    "not_agreed": (
        "warning",
        Words(
            _("nicht vereinbart"),
            _("Das Paket kam über ein Partnernetz, das dieses Gerät nicht bedienen darf."),
        ),
    ),
    "budget": (
        "warning",
        Words(_("Kontingent aufgebraucht"), _("Die vereinbarte Sendezeit dieses Tages ist verbraucht.")),
    ),
    "proprietary": (
        "info",
        Words(_("Eigenes Format"), _("Ein Paket in der Form eines Herstellers; Quartier liest es nicht.")),
    ),
}

# What CUPS gives a Basics Station.
STATION_PARTS: Final[dict[str, Text]] = {
    "lns_uri": _("Adresse des Netzservers (LNS)"),
    "cups_uri": _("Adresse der Fernverwaltung (CUPS)"),
    "lns_credentials": _("Zugangsschlüssel für den Netzserver"),
    "cups_credentials": _("Zugangsschlüssel für die Fernverwaltung"),
    "update": _("Software"),
}

# How far a software update is at a Basics Station.
UPDATE_STATES: Final[dict[str, tuple[str, Words]]] = {
    "none": ("info", Words(_("keines vorgesehen"), _("Für diese Station ist kein Update aktiv."))),
    "waiting": ("warning", Words(_("liegt bereit"), _("Die Station bekommt es bei der nächsten Anfrage."))),
    "no_key": (
        "danger",
        Words(
            _("passt zu keinem Schlüssel"),
            _(
                "Die Station nennt keinen Schlüssel, mit dem das Update unterschrieben ist, und würde es ablehnen."
                " Legen Sie sig-0.key in ihren Ordner, oder tragen Sie eine Unterschrift mit ihrem Schlüssel ein."
            ),
        ),
    ),
    "broken": (
        "warning",
        Words(
            _("Übertragung läuft oder brach ab"),
            _(
                "Die Station hat angefangen zu laden. Brach es ab, bekommt sie es bei der nächsten Anfrage wieder."
            ),
        ),
    ),
    "given": (
        "warning",
        Words(_("geholt"), _("Ob es läuft, sagt die Station mit einer ihrer nächsten Anfragen.")),
    ),
    "missed": (
        "warning",
        Words(
            _("nicht übernommen"),
            _(
                "Die Station hat es geholt und nennt weiter ein anderes Softwarepaket. Sie bekommt es noch einmal."
            ),
        ),
    ),
    "stopped": (
        "danger",
        Words(
            _("nach drei Versuchen aufgegeben"),
            _(
                "Es wird nicht mehr angeboten. Sehen Sie im Protokoll der Station nach, was das Update dort tut."
            ),
        ),
    ),
    "done": ("success", Words(_("läuft"), _("Die Station nennt dieses Softwarepaket."))),
}

# Of frames that were, or should have been, sent; and of downlinks that failed.
SENT: Final[dict[str, tuple[str, Words]]] = {
    "ok": ("success", Words(_("gesendet"), _("Das Gateway hat die Sendung bestätigt."))),
    "too_late": (
        "danger",
        Words(
            _("zu spät"),
            _(
                "Das Empfangsfenster war vorbei, bevor das Gateway senden konnte; meist ist seine Leitung langsam."
            ),
        ),
    ),
    "too_early": ("danger", Words(_("zu früh"), _("Das Gateway kann so weit im Voraus nichts annehmen."))),
    "collision_packet": (
        "warning",
        Words(_("Gateway sendet schon"), _("Zur selben Zeit war ein anderes Paket an der Reihe.")),
    ),
    "collision_beacon": ("warning", Words(_("Gateway sendet ein Zeitzeichen"), "")),
    "tx_freq": (
        "danger",
        Words(_("Frequenz nicht erlaubt"), _("Das Gateway kann auf dieser Frequenz nicht senden.")),
    ),
    "tx_power": (
        "danger",
        Words(_("Sendeleistung nicht möglich"), _("Das Gateway kennt diese Sendeleistung nicht.")),
    ),
    "gps_unlocked": (
        "danger",
        Words(
            _("Gateway ohne GPS-Zeit"),
            _(
                "Dem Gateway fehlt der Satellitenempfang. Ohne ihn trifft es die Zeiten nicht, zu denen ein Gerät der"
                " Klasse B hört."
            ),
        ),
    ),
    "duty_cycle": (
        "warning",
        Words(
            _("Sendezeit aufgebraucht"),
            _("Das Gateway hat die erlaubte Sendezeit dieser Stunde (Duty Cycle) in diesem Band verbraucht."),
        ),
    ),
    "gateway_offline": (
        "danger",
        Words(_("Gateway nicht verbunden"), _("Das Gateway meldet sich zurzeit nicht.")),
    ),
    "no_confirmation": (
        "danger",
        Words(
            _("ohne Bestätigung"),
            _("Das Gateway hat nicht gesagt, ob es gesendet hat. Das gilt als nicht gesendet."),
        ),
    ),
    "not_allowed": (
        "danger",
        Words(_("nicht erlaubt"), _("Eine Vereinbarung oder Einstellung verbietet diese Sendung.")),
    ),
    "queue_full": (
        "danger",
        Words(_("zu viel auf einmal"), _("Beim Gateway warten schon zu viele Sendungen.")),
    ),
    "peer": (
        "danger",
        Words(
            _("Partnernetz konnte nicht senden"), _("Das Partnernetz hat abgelehnt oder nicht geantwortet.")
        ),
    ),
    "expired": (
        "danger",
        Words(_("abgelaufen"), _("Bis zum gewünschten Zeitpunkt gab es keine Gelegenheit zu senden.")),
    ),
    "too_long": (
        "danger",
        Words(_("zu lang"), _("Bei der Datenrate des Geräts passen so viele Bytes nicht in ein Paket.")),
    ),
    "no_gateway": ("danger", Words(_("kein Gateway bekannt"), _("Noch kein Gateway hat das Gerät gehört."))),
    "not_acknowledged": (
        "danger",
        Words(
            _("vom Gerät nicht bestätigt"),
            _("Die Nachricht wurde gesendet, aber das Gerät hat den Empfang nicht bestätigt."),
        ),
    ),
    "interrupted": (
        "danger",
        Words(
            _("unterbrochen"),
            _(
                "Das System wurde beendet, während die Nachricht unterwegs war. Ob sie gesendet wurde, weiß niemand."
            ),
        ),
    ),
    "moved": ("info", Words(_("Gerät wurde abgegeben"), _("Das Gerät gehört jetzt einer anderen Stadt."))),
    "failed": ("danger", Words(_("gescheitert"), "")),
}

# By the first part of a command's name; what stands behind it says who speaks.
COMMANDS: Final[dict[str, Text]] = {
    "Reset": _("Neustart eines fest eingestellten Geräts"),
    "LinkCheck": _("Frage nach der Verbindung"),
    "LinkADR": _("Datenrate, Sendeleistung und Kanäle"),
    "DutyCycle": _("Grenze der Sendezeit"),
    "RXParamSetup": _("Empfangsfenster: Frequenz und Datenrate"),
    "DevStatus": _("Batterie und Empfangsreserve"),
    "NewChannel": _("weiterer Funkkanal"),
    "RXTimingSetup": _("Abstand des Empfangsfensters"),
    "TxParamSetup": _("Sendedauer und Leistung"),
    "DlChannel": _("Antwortfrequenz eines Kanals"),
    "Rekey": _("neue Schlüssel in Gebrauch"),
    "ADRParamSetup": _("Geduld der Datenratenregelung"),
    "DeviceTime": _("Uhrzeit"),
    "ForceRejoin": _("Aufforderung zur neuen Anmeldung"),
    "RejoinParamSetup": _("Abstand erneuter Anmeldungen"),
    "PingSlotInfo": _("Klasse B: wie oft das Gerät hört"),
    "PingSlotChannel": _("Klasse B: auf welcher Frequenz und mit welcher Datenrate es hört"),
    "BeaconTiming": _("Klasse B: wann das nächste Zeitzeichen kommt"),
    "BeaconFreq": _("Klasse B: Frequenz des Zeitzeichens"),
    "DeviceMode": _("Klasse des Geräts"),
}
_ENDINGS: Final = ("Req", "Ans", "Ind", "Conf")

DATA_CLASSES: Final[dict[str, Text]] = {
    "join": _("Anmeldungen"),
    "mac": _("Funkbefehle"),
    "application": _("Nutzdaten (verschlüsselt)"),
    "signal_quality": _("Empfangsqualität"),
    "location": _("Standorte der Gateways"),
}


def command(name: str) -> Text:
    """What a MAC command is about; empty for one that has no words."""
    for ending in _ENDINGS:
        if name.endswith(ending):
            return COMMANDS.get(name.removesuffix(ending), "")
    return ""


def outcome(direction: str, code: str) -> tuple[str, Words]:
    """Kind of badge and words for what became of a frame."""
    table = SENT if direction == "down" else HEARD
    return table.get(code) or ("warning", Words(code.replace("_", " ")))


def failure(code: str) -> Words:
    """Why a downlink failed."""
    found = SENT.get(code)
    return found[1] if found else Words(code.replace("_", " "))


# Why a frame does not count in the ledger: our own rules, and the answers of TS002 that are frequent.
LEDGER_RESULTS: Final[dict[str, Text]] = {
    "no_agreement": _("keine Vereinbarung in Kraft"),
    "device": _("Gerät nicht vereinbart"),
    "class": _("Datenart nicht vereinbart"),
    "gateway": _("Gateway nicht vereinbart"),
    "rate": _("zu viele Nachrichten in der Stunde"),
    "airtime": _("Sendezeit des Tages verbraucht"),
    "downlinks": _("Nachrichten des Tages verbraucht"),
    "class_c": _("Klasse C nicht vereinbart"),
    "kind": _("Art des Pakets nicht vereinbart"),
    "budget": _("Kontingent aufgebraucht"),
    "UnknownDevAddr": _("Adresse dort unbekannt"),
    "UnknownDevEUI": _("Gerät dort unbekannt"),
    "JoinReqFailed": _("Anmeldung dort abgelehnt"),
    "MICFailed": _("Prüfwert passt nicht"),
    "FrameReplayed": _("Zähler schon benutzt"),
    "NoRoamingAgreement": _("keine Vereinbarung in Kraft"),
    "XmitFailed": _("nicht gesendet"),
}


def ledger_result(code: str) -> str:
    """Why a frame does not count; what nobody has words for is shown as it is."""
    found = LEDGER_RESULTS.get(code)
    return str(found or failure(code).title) if found or code in SENT else code
