"""Django application of the room ``sources``."""

from django.apps import AppConfig


class SourcesConfig(AppConfig):
    """Registers the room with Django, and its parsers with the intake."""

    name = "quartier.sources"
    label = "sources"

    def ready(self) -> None:
        """Tell the intake how messages of each kind are read."""
        from quartier.intake import parsers  # noqa: PLC0415 (apps must be loaded)
        from quartier.sources import opensensemap, quartier_json, sensorcommunity  # noqa: PLC0415
        from quartier.sources.kinds import KINDS  # noqa: PLC0415

        for kind in KINDS.values():
            parsers.register(kind.key, kind.parser)
        parsers.register("quartier_json", quartier_json.parse)
        parsers.register("opensensemap", opensensemap.parse)
        parsers.register("sensorcommunity", sensorcommunity.parse)
