"""What Basics Stations told CUPS, and were given."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("lorawan", "0002_roaming")]

    operations = [
        migrations.AddField(
            model_name="gateway",
            name="cups",
            field=models.JSONField(
                blank=True,
                default=dict,
                editable=False,
                help_text="what a Basics Station told CUPS, and was given",
            ),
        ),
    ]
