"""Which data sets there are, whose they are, and under which licence anybody may use them."""

from __future__ import annotations

from django.db import models

from quartier.cities.models import Municipality


class Dataset(models.Model):
    """All things of some kinds of one municipality, described for reuse. Reading goes through ``usage.rules.may``."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="datasets")
    slug = models.SlugField(max_length=80)
    title_de = models.CharField(max_length=200)
    title_en = models.CharField(max_length=200)
    description_de = models.TextField(blank=True)
    description_en = models.TextField(blank=True)
    thing_kinds = models.JSONField(default=list)
    licence = models.CharField(max_length=120, default="Datenlizenz Deutschland – Zero – Version 2.0")
    licence_url = models.URLField(default="https://www.govdata.de/dl-de/zero-2-0")
    attribution = models.CharField(max_length=300, blank=True)
    public = models.BooleanField(default=True)
    update_interval_s = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["municipality_id", "slug"]
        constraints = [models.UniqueConstraint(fields=["municipality", "slug"], name="dataset_slug")]

    def __str__(self) -> str:
        return self.title_de
