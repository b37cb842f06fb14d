"""Payload codecs: device bytes to fields, by vendors' JavaScript run where it can harm nobody.

`sandbox` is the way in, `library` holds the codecs that ship with Quartier. This file stays empty of
imports on purpose: the worker process is started as a module of this package and must stay small.
"""
