"""Addresses of the data pages. They are German and stay as they are: people have them in their bookmarks."""

from __future__ import annotations

from django.urls import path

from quartier.portal import downloads
from quartier.portal.data_views.compare import compare
from quartier.portal.data_views.home import home
from quartier.portal.data_views.places import place_geojson, place_list, place_map
from quartier.portal.data_views.properties import property_index, property_page
from quartier.portal.data_views.thing import thing_page

urlpatterns = [
    path("", home, name="home"),
    path("orte/", place_list, name="places"),
    path("orte/karte", place_map, name="places-map"),
    path("orte.geojson", place_geojson, name="places-geojson"),
    path("orte/<slug:municipality>/<slug:key>/", thing_page, name="thing"),
    path("messgroessen/", property_index, name="properties"),
    path("messgroessen/<slug:slug>/", property_page, name="property"),
    path("vergleich/", compare, name="compare"),
    path("daten/beobachtungen.csv", downloads.as_csv, name="download-csv"),
    path("daten/beobachtungen.csv-metadata.json", downloads.csv_metadata, name="download-csv-metadata"),
    path("daten/beobachtungen.geojson", downloads.as_geojson, name="download-geojson"),
    path("daten/beobachtungen.parquet", downloads.as_parquet, name="download-parquet"),
]
