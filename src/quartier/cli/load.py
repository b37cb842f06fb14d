"""``quartier load``: cities, existing data sets, readings and devices from files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from quartier.cli.common import actor, bar, engines, municipality, run
from quartier.cli.seed import SHIPPED, seed_municipality, shipped_file

if TYPE_CHECKING:
    from quartier.cities.models import Municipality
    from quartier.cli.importers import ImportedReading, ImportedThing, OnError, RowError
    from quartier.cli.recording import Counts, SeriesOf
    from quartier.twin.models import Thing
    from quartier.twin.record import Observation

_SHOWN_ERRORS: Final = 20
_folder = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def load() -> None:
    """Load cities, existing data sets, readings or devices from files.

    Everything may be loaded again: what is there is brought up to date, and no observation comes twice.
    """


@load.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def cities(*, files: tuple[Path, ...]) -> None:
    """Add municipalities with their districts from FILES; without any: Dortmund and Schwerte, which come along."""
    with engines():
        from quartier.cities.audit import log  # noqa: PLC0415 (needs Django set up)

        for file in files or [shipped_file(slug) for slug in SHIPPED]:
            city = seed_municipality(file)
            log(actor(), "municipality.load", city.slug, municipality_id=city.pk, file=file.name)
            click.echo(f"{city.name}: {city.districts.count()} districts.")


class _Errors:
    """Collects what is wrong with rows, and shows the first of it."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def __call__(self, error: RowError) -> None:
        self.count += 1
        if len(self._shown) < _SHOWN_ERRORS:
            self._shown.append(str(error))

    def show(self) -> None:
        """Print them."""
        for line in self._shown:
            click.echo(f"  {line}", err=True)
        if self.count > len(self._shown):
            click.echo(f"  … and {self.count - len(self._shown)} more.", err=True)


def _load(
    city_slug: str,
    *,
    source: str,
    things: Callable[[OnError], Iterable[ImportedThing]] | None,
    readings: Callable[[dict[str, Thing], OnError], Iterable[ImportedReading]],
    publish: bool,
    neighbours: bool = False,
    dataset: tuple[str, str, str] | None = None,
) -> None:
    """Write things and readings of an importer, with a progress bar, and say what happened.

    ``dataset``: kind of thing, licence and attribution of a data set that is described if there is none of that kind.
    """
    from quartier.cities.audit import log  # noqa: PLC0415 (needs Django set up)
    from quartier.cli.importers import ImportFileError  # noqa: PLC0415
    from quartier.cli.recording import Counts, SeriesOf, observations, write_things  # noqa: PLC0415
    from quartier.twin.models import Thing  # noqa: PLC0415

    city, errors, counts = municipality(city_slug), _Errors(), Counts()
    try:
        known = (
            write_things(city, things(errors), counts, source=source)
            if things
            else {thing.key: thing for thing in Thing.objects.filter(municipality=city)}
        )
        if dataset:
            _describe(city, *dataset)
        series_of = SeriesOf(city, known)
        rows: Iterable[Observation] = observations(readings(known, errors), series_of, counts)
        with bar(unit="readings") as progress:
            task = progress.add_task("Reading", total=None, note="")
            if neighbours:
                rows = _with_neighbours(rows, series_of)
            _record(rows, counts, publish, lambda done: progress.update(task, completed=done))
            progress.update(task, total=counts.readings, note=f"{counts.rate:,.0f}/s")
    except ImportFileError as error:
        raise click.ClickException(str(error)) from None
    log(
        actor(), "readings.load", source, municipality_id=city.pk, readings=counts.readings, recorded=counts.recorded
    )  # fmt: skip
    _report(counts, errors)


def _record(
    rows: Iterable[Observation], counts: Counts, publish: bool, progress: Callable[[int], None]
) -> None:
    from quartier.cli.recording import record  # noqa: PLC0415

    run(lambda: record(rows, counts, publish=publish, progress=progress))


def _with_neighbours(rows: Iterable[Observation], series_of: SeriesOf) -> Iterator[Observation]:
    from quartier.cli.recording import check_neighbours  # noqa: PLC0415

    yield from check_neighbours(list(rows), series_of)


def _describe(city: Municipality, kind: str, licence: str, attribution: str) -> None:
    """Describe the data set of a kind of things, unless somebody has."""
    from quartier.cli.seed_datasets import describe  # noqa: PLC0415

    describe(city, kind, licence=licence, attribution=attribution)


def _report(counts: Counts, errors: _Errors) -> None:
    if counts.things_new or counts.things_changed:
        click.echo(f"{counts.things_new} things added, {counts.things_changed} changed.")
    already = counts.readings - counts.recorded - sum(counts.skipped.values())
    click.echo(
        f"{counts.readings:,} readings in {counts.seconds:.1f} s ({counts.rate:,.0f} per second): "
        f"{counts.recorded:,} recorded, {already:,} were there, "
        f"{counts.flagged:,} found implausible."
    )
    for what, number in list(counts.skipped.items())[:_SHOWN_ERRORS]:
        click.echo(f"  {number:,} skipped: nothing to record {what}.", err=True)
    if errors.count:
        click.echo(f"{errors.count:,} rows could not be used:", err=True)
        errors.show()


@load.command()
@_folder
@click.option(
    "--municipality", "city", default="dortmund", show_default=True, help="Whose stations these are."
)
def climate(*, folder: Path, city: str) -> None:
    """Load Dortmund's climate network from FOLDER: stations.csv and, if it is there, the snapshot data.csv.

    The snapshot passes quality control, the comparison of neighbouring stations included.
    """
    with engines():
        from quartier.cli.importers import dortmund_climate as files  # noqa: PLC0415 (needs Django set up)

        known: dict[str, ImportedThing] = {}

        def things(on_error: OnError) -> Iterator[ImportedThing]:
            for one in files.stations(folder / "stations.csv", on_error):
                known[one.key] = one
                yield one

        def readings(_things: dict[str, Thing], on_error: OnError) -> Iterable[ImportedReading]:
            snapshot = folder / "data.csv"
            return files.snapshot(snapshot, known, on_error) if snapshot.exists() else ()

        _load(
            city,
            source="Data2Resilience",
            things=things,
            readings=readings,
            publish=True,
            neighbours=True,
            dataset=("station", "MIT", "Jonas Kittner & Data2Resilience contributors"),
        )


@load.command()
@_file
@click.option("--municipality", "city", default="dortmund", show_default=True, help="Whose station it is.")
@click.option("--thing", required=True, help="Key of the station at which the device hangs.")
def raw(*, file: Path, city: str, thing: str) -> None:
    """Load raw readings of one Decentlab device (DL-ATM41, DL-BLG, DL-SHT35) from FILE."""
    with engines():
        from quartier.cli.importers import dortmund_climate as files  # noqa: PLC0415 (needs Django set up)

        def readings(things: dict[str, Thing], on_error: OnError) -> Iterable[ImportedReading]:
            if thing not in things:
                raise click.ClickException(f"{city} has no thing {thing!r}.")
            return files.raw(file, on_error, thing_key=thing)

        _load(city, source=file.name, things=None, readings=readings, publish=True)


@load.command()
@_folder
@click.option(
    "--municipality", "city", default="dortmund", show_default=True, help="Whose car parks these are."
)
def parking(*, folder: Path, city: str) -> None:
    """Load Dortmund's car parks from FOLDER: garages.csv and occupancy-2020-2022.csv.gz."""
    with engines():
        from quartier.cli.importers import parking as files  # noqa: PLC0415 (needs Django set up)

        _load(
            city,
            source="ParkAPI, parking-data",
            things=lambda on_error: files.car_parks(folder / "garages.csv", on_error),
            readings=lambda things, on_error: files.occupancy(
                folder / "occupancy-2020-2022.csv.gz", things.keys(), on_error
            ),
            publish=False,
            dataset=("car_park", "Datenlizenz Deutschland – Zero – Version 2.0", "Stadt Dortmund"),
        )


@load.command("csv")
@_file
@click.option("--municipality", "city", required=True, help="Whose things these are.")
@click.option("--publish", is_flag=True, help="Tell followers (live pages, derived series) of every reading.")
def csv_file(*, file: Path, city: str, publish: bool) -> None:
    """Load readings from FILE with the columns thing, property, unit, time and value.

    thing is the key of a thing that exists; property one of the observed properties; unit in UCUM; time with zone.
    """
    with engines():
        from quartier.cli.importers import csv as files  # noqa: PLC0415 (needs Django set up)

        _load(
            city,
            source=file.name,
            things=None,
            readings=lambda _things, on_error: files.readings(file, on_error),
            publish=publish,
        )


@load.command()
@_file
@click.option("--source", "key", required=True, help="Key of the source that reports for these devices.")
@click.option(
    "--kind", default="station", show_default=True, help="Kind of the things where the file says none."
)
@click.option("--check", is_flag=True, help="Only check the file.")
def devices(*, file: Path, key: str, kind: str, check: bool) -> None:
    """Register devices and their things from a CSV FILE. All rows are written, or none.

    Columns: external_id (required), name, device_type, expected_interval_s, thing_key, thing_name, kind, lon, lat,
    altitude_m, height_above_ground_m, surface, street, house_number, postcode, description, public, since.
    """
    with engines():
        from django.utils.translation import override  # noqa: PLC0415 (needs Django set up)

        from quartier.cli.sources import show_import, source_of  # noqa: PLC0415
        from quartier.sources.domain import import_devices_csv  # noqa: PLC0415

        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise click.ClickException(f"{file} is not UTF-8.") from None
        with override("en"):
            report = import_devices_csv(actor(), source_of(key), text, dry_run=check, default_kind=kind)
            show_import(report, file.name)
