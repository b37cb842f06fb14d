"""Who else can send to a device of class C."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lorawan", "0004_frame_log_by_day")]

    operations = [
        migrations.AddField(
            model_name="session",
            name="others",
            field=models.JSONField(
                blank=True,
                help_text="class C: who else heard it, the next best first (EUI, peer)",
                null=True,
            ),
        ),
    ]
