"""Software updates for Basics Stations: in pieces, with what became of them at each Station."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("cities", "0001_initial"),
        ("lorawan", "0005_session_others"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="StationUpdate",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "model",
                    models.CharField(help_text="as Stations tell it", max_length=80, verbose_name="Modell"),
                ),
                (
                    "package",
                    models.CharField(
                        help_text="as Stations tell it afterwards",
                        max_length=80,
                        verbose_name="Softwarepaket",
                    ),
                ),
                (
                    "packages",
                    models.JSONField(
                        blank=True, default=list, help_text="packages it can be put on; empty: any"
                    ),
                ),
                (
                    "stations",
                    models.JSONField(
                        blank=True, default=list, help_text="beginnings of Station's versions; empty: any"
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=200, verbose_name="Bemerkung")),
                ("size", models.PositiveIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("sha512", models.CharField(help_text="what the signatures sign", max_length=128)),
                (
                    "signatures",
                    models.JSONField(
                        help_text="CRC-32 of the key (decimal) to signature (DER, hexadecimal); all were verified"
                    ),
                ),
                (
                    "everywhere",
                    models.BooleanField(
                        default=False,
                        help_text="or only where it is assigned",
                        verbose_name="für alle Stationen des Modells",
                    ),
                ),
                ("active", models.BooleanField(default=False, verbose_name="aktiv")),
                ("activated_at", models.DateTimeField(blank=True, help_text="the newest wins", null=True)),
                ("uploaded_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("uploaded_by", models.CharField(max_length=200)),
                (
                    "municipality",
                    models.ForeignKey(
                        blank=True,
                        help_text="empty: for all municipalities",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="cities.municipality",
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["model", "-uploaded_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="StationDelivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "assigned",
                    models.BooleanField(default=False, help_text="to this gateway, ahead of those for all"),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("begun_at", models.DateTimeField(blank=True, null=True)),
                ("delivered_at", models.DateTimeField(blank=True, null=True)),
                (
                    "done_at",
                    models.DateTimeField(blank=True, help_text="the Station told that it runs it", null=True),
                ),
                (
                    "missed_at",
                    models.DateTimeField(
                        blank=True, help_text="the Station asked again and runs something else", null=True
                    ),
                ),
                (
                    "gateway",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="lorawan.gateway",
                    ),
                ),
                (
                    "update",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="lorawan.stationupdate",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StationUpdatePart",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveSmallIntegerField()),
                ("data", models.BinaryField()),
                (
                    "update",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="lorawan.stationupdate",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="stationupdate",
            constraint=models.UniqueConstraint(
                fields=("municipality", "model", "package"),
                name="lora_station_update_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="stationdelivery",
            constraint=models.UniqueConstraint(fields=("update", "gateway"), name="lora_station_delivery"),
        ),
        migrations.AddConstraint(
            model_name="stationdelivery",
            constraint=models.UniqueConstraint(
                condition=models.Q(("assigned", True)), fields=("gateway",), name="lora_station_assigned_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="stationupdatepart",
            constraint=models.UniqueConstraint(fields=("update", "number"), name="lora_station_update_part"),
        ),
    ]
