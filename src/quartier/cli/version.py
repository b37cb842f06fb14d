"""``quartier version``."""

import click

from quartier import __version__


@click.command()
def version() -> None:
    """Show the version of Quartier. `quartier doctor` shows those of the engines as well."""
    click.echo(__version__)
