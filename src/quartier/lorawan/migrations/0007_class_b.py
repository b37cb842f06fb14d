"""Class B: what a profile says of ping slots, and which gateways send beacons."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lorawan", "0006_station_updates")]

    operations = [
        migrations.AlterField(
            model_name="deviceprofile",
            name="device_class",
            field=models.CharField(
                choices=[
                    ("A", "A: hört nur nach dem Senden"),
                    ("B", "B: hört zu festen Zeiten"),
                    ("C", "C: hört immer"),
                ],
                default="A",
                max_length=1,
                verbose_name="Klasse",
            ),
        ),
        migrations.AddField(
            model_name="deviceprofile",
            name="ping_slot_periodicity",
            field=models.PositiveSmallIntegerField(
                default=7,
                help_text="class B: a ping slot every 2^n seconds, for devices that do not say so themselves",
            ),
        ),
        migrations.AddField(
            model_name="deviceprofile",
            name="ping_slot_data_rate",
            field=models.PositiveSmallIntegerField(default=3),
        ),
        migrations.AddField(
            model_name="deviceprofile",
            name="ping_slot_frequency_hz",
            field=models.PositiveIntegerField(default=869_525_000),
        ),
        migrations.AddField(
            model_name="deviceprofile",
            name="beacon_frequency_hz",
            field=models.PositiveIntegerField(
                blank=True, help_text="BeaconFreqReq; empty is the region's own", null=True
            ),
        ),
        migrations.AddField(
            model_name="deviceprofile",
            name="class_b_timeout_s",
            field=models.PositiveSmallIntegerField(default=8),
        ),
        migrations.AddField(
            model_name="gateway",
            name="beacon",
            field=models.BooleanField(default=False, verbose_name="sendet Zeitzeichen (Beacons)"),
        ),
        migrations.AlterField(
            model_name="session",
            name="others",
            field=models.JSONField(
                blank=True,
                help_text="class B and C: who else heard it, the next best first (EUI, peer)",
                null=True,
            ),
        ),
    ]
