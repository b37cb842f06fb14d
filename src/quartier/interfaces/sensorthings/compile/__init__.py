"""A request (``query.ast``) over the facts (``model``) into parameterised SQL.

Whatever a caller wrote reaches PostgreSQL as a bound parameter; the text of a statement is made of the facts only.
"""
