"""``quartier users`` and ``quartier tokens``: people, their roles, and their API tokens."""

from __future__ import annotations

import secrets
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from quartier.cli.common import actor, console, engines, municipality, table

if TYPE_CHECKING:
    from quartier.cities.models import Person

ROLES = ("operator", "steward", "staff", "maker")
_password = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)
_role_help = "operator: runs it; steward: cares for data; staff: sees the desk; maker: sends own readings."


@click.group()
def users() -> None:
    """People and their roles."""


@users.command("list")
def list_users() -> None:
    """List everybody who has an account."""
    with engines():
        from quartier.cities.models import Person  # noqa: PLC0415 (needs Django set up)

        rows_shown = table("e-mail", "name", "roles", "active", "signed in")
        people = Person.objects.prefetch_related("roles__municipality").order_by("email")
        for person in people:
            roles = [
                f"{r.role} ({r.municipality.slug if r.municipality else 'everywhere'})"
                for r in person.roles.all()
            ]
            if person.is_superuser:
                roles.insert(0, "superuser")
            signed_in = (
                person.last_login.isoformat(sep=" ", timespec="minutes") if person.last_login else "never"
            )
            rows_shown.add_row(
                person.email, person.name, ", ".join(roles), "yes" if person.is_active else "no", signed_in
            )
    console.print(rows_shown)


@users.command()
@click.argument("email")
@click.option("--name", default="", help="Name shown on pages.")
@click.option("--role", type=click.Choice(ROLES), help=_role_help)
@click.option("--municipality", "city", help="Where the role holds; everywhere if left out.")
@click.option("--superuser", is_flag=True, help="May do everything, in Django's admin as well.")
@_password
def add(
    *, email: str, name: str, role: str | None, city: str | None, superuser: bool, password_stdin: bool
) -> None:
    """Give the person with EMAIL an account. Asks for a password; an empty one is made up and shown once."""
    password, made = _ask_password(from_stdin=password_stdin)
    with engines():
        from allauth.account.models import EmailAddress  # noqa: PLC0415 (needs Django set up)
        from django.core.exceptions import ValidationError  # noqa: PLC0415
        from django.core.validators import validate_email  # noqa: PLC0415
        from django.db import transaction  # noqa: PLC0415

        from quartier.cities.audit import log  # noqa: PLC0415
        from quartier.cities.models import Person  # noqa: PLC0415

        try:
            validate_email(email)
        except ValidationError:
            raise click.BadParameter(f"{email!r} is not an e-mail address", param_hint="EMAIL") from None
        if Person.objects.filter(email__iexact=email).exists():
            raise click.ClickException(f"{email} has an account already.")
        with transaction.atomic():
            if superuser:
                person = Person.objects.create_superuser(email, name=name)
            else:
                person = Person.objects.create_user(email, name=name)
            _set_password(person, password)
            # Whoever adds somebody by hand vouches for the address.
            EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
            log(actor(), "person.add", person.email, superuser=superuser)
            if role:
                _grant(person, role, city)
    click.echo(f"{email} has an account." + (f" Password: {password}" if made else ""))


def _ask_password(*, from_stdin: bool) -> tuple[str, bool]:
    """A password, and whether it was made up."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    password = click.prompt(
        "Password (empty: make one up)",
        default="",
        hide_input=True,
        show_default=False,
        confirmation_prompt=True,
    )
    return (password, False) if password else (secrets.token_urlsafe(12), True)


def _set_password(person: Person, password: str) -> None:
    from django.contrib.auth.password_validation import validate_password  # noqa: PLC0415
    from django.core.exceptions import ValidationError  # noqa: PLC0415
    from django.utils.translation import override  # noqa: PLC0415

    try:
        with override("en"):
            validate_password(password, person)
    except ValidationError as error:
        raise click.ClickException(" ".join(error.messages)) from None
    person.set_password(password)
    person.save(update_fields=["password"])


def _grant(person: Person, role: str, city: str | None) -> bool:
    from quartier.cities.audit import log  # noqa: PLC0415
    from quartier.cities.models import RoleAssignment  # noqa: PLC0415

    place = municipality(city) if city else None
    _assignment, new = RoleAssignment.objects.get_or_create(person=person, role=role, municipality=place)
    if new:
        log(actor(), "role.grant", person.email, municipality_id=place.pk if place else None, role=role)
    return new


def _person(email: str) -> Person:
    from quartier.cities.models import Person  # noqa: PLC0415

    found = Person.objects.filter(email__iexact=email).first()
    if found is None:
        raise click.ClickException(f"Nobody has an account with {email}.")
    return found


@users.command()
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--municipality", "city", help="Where the role holds; everywhere if left out.")
@click.option("--remove", is_flag=True, help="Take the role away.")
def role(*, email: str, role: str, city: str | None, remove: bool) -> None:
    """Give the person with EMAIL a ROLE, or take it away.

    \b
    operator  runs the installation: devices, sources, people, audit log
    steward   cares for data: quality, devices, codecs
    staff     sees the desk
    maker     sends readings of sensors of their own
    """
    with engines():
        person = _person(email)
        if remove:
            from quartier.cities.audit import log  # noqa: PLC0415
            from quartier.cities.models import RoleAssignment  # noqa: PLC0415

            place = municipality(city) if city else None
            count, _ = RoleAssignment.objects.filter(person=person, role=role, municipality=place).delete()
            if not count:
                raise click.ClickException(f"{email} is not {role} {f'in {city}' if city else 'everywhere'}.")
            log(actor(), "role.revoke", person.email, municipality_id=place.pk if place else None, role=role)
            click.echo(f"{email} is no longer {role} {f'in {city}' if city else 'everywhere'}.")
        else:
            new = _grant(person, role, city)
            click.echo(
                f"{email} is {'now' if new else 'already'} {role} {f'in {city}' if city else 'everywhere'}."
            )


@users.command("password")
@click.argument("email")
@_password
def change_password(*, email: str, password_stdin: bool) -> None:
    """Set a new password for the person with EMAIL."""
    password, made = _ask_password(from_stdin=password_stdin)
    with engines():
        from quartier.cities.audit import log  # noqa: PLC0415 (needs Django set up)

        person = _person(email)
        _set_password(person, password)
        log(actor(), "person.password", person.email)
    click.echo(f"{email} has a new password." + (f" It is {password}" if made else ""))


@users.command()
@click.argument("email")
@click.option("--off/--on", default=True, help="Close the account, or open it again.")
def close(*, email: str, off: bool) -> None:
    """Close the account of the person with EMAIL; what the person did stays in the audit log."""
    with engines():
        from quartier.cities.audit import log  # noqa: PLC0415 (needs Django set up)

        person = _person(email)
        person.is_active = not off
        person.save(update_fields=["is_active"])
        log(actor(), "person.close" if off else "person.open", person.email)
    click.echo(f"The account of {email} is {'closed' if off else 'open'}.")


@click.group()
def tokens() -> None:
    """API tokens. A token can do no more than its person."""


@tokens.command()
@click.argument("email")
@click.option("--name", required=True, help="What the token is for.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help="What it may do; may be given several times."
)
@click.option("--municipality", "city", help="Where it holds; everywhere if left out.")
@click.option("--days", type=click.IntRange(1), help="Days until it expires; never if left out.")
def create(*, email: str, name: str, scopes: tuple[str, ...], city: str | None, days: int | None) -> None:
    """Make a token for the person with EMAIL and show it, once."""
    with engines():
        from django.utils import timezone  # noqa: PLC0415 (needs Django set up)

        from quartier.cities.audit import log  # noqa: PLC0415
        from quartier.cities.tokens import make  # noqa: PLC0415

        person = _person(email)
        place = municipality(city) if city else None
        expires = timezone.now() + timedelta(days=days) if days else None
        try:
            token, text = make(person, name=name, scopes=list(scopes), municipality=place, expires_at=expires)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        log(actor(), "token.create", f"{person.email}: {name}", prefix=token.prefix, scopes=list(scopes))
    click.echo(text)


@tokens.command("list")
@click.argument("email", required=False)
def list_tokens(*, email: str | None) -> None:
    """List tokens (of the person with EMAIL). Their secret parts are not kept, so they cannot be shown."""
    with engines():
        from quartier.cities.models import Token  # noqa: PLC0415 (needs Django set up)

        rows = Token.objects.select_related("person", "municipality").order_by("person__email", "name")
        if email:
            rows = rows.filter(person=_person(email))
        rows_shown = table("number", "prefix", "person", "for", "scopes", "where", "expires", "last used")
        for token in rows:
            state = (
                "revoked"
                if token.revoked_at
                else (f"{token.expires_at:%Y-%m-%d}" if token.expires_at else "never")
            )
            rows_shown.add_row(
                str(token.pk),
                token.prefix,
                token.person.email,
                token.name,
                ", ".join(token.scopes),
                token.municipality.slug if token.municipality else "everywhere",
                state,
                f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never",
            )
    console.print(rows_shown)


@tokens.command()
@click.argument("prefix")
def revoke(*, prefix: str) -> None:
    """Make the token with PREFIX (or the whole token) worthless. It takes effect within half a minute."""
    wanted = prefix.split("_")[1] if prefix.startswith("qt_") and prefix.count("_") >= 1 else prefix
    with engines():
        from django.utils import timezone  # noqa: PLC0415 (needs Django set up)

        from quartier.cities.audit import log  # noqa: PLC0415
        from quartier.cities.models import Token  # noqa: PLC0415

        token = Token.objects.select_related("person").filter(prefix=wanted).first()
        if token is None:
            raise click.ClickException(f"There is no token {wanted}; `quartier tokens list` shows them.")
        if token.revoked_at is None:
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            log(actor(), "token.revoke", f"{token.person.email}: {token.name}", prefix=wanted)
    click.echo(f"Token {wanted} is revoked.")
