"""Addresses of the people's side."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("amt/", include("quartier.desk.urls")),
    path("", include("quartier.portal.urls")),
]

handler400 = "quartier.portal.errors.bad_request"
handler403 = "quartier.portal.errors.forbidden"
handler404 = "quartier.portal.errors.not_found"
handler429 = "quartier.portal.errors.too_many"  # allauth asks for it
