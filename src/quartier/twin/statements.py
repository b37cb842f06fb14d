"""The statements that write observations, with the state per series, the roll-up marks and the change to publish.

Parameters: arrays of the rows' columns in the order of municipality, series and time; whether to publish; for CORRECT
the reason and the flags that stay with a value. The answer is how many rows were added and how many corrected.
"""

from __future__ import annotations

from typing import Final

from quartier.twin.rollups import MARK

_INCOMING = """
WITH incoming AS MATERIALIZED (
    SELECT * FROM unnest(%(municipality)s, %(series)s, %(time)s, %(result)s, %(flags)s, %(origin)s, %(value)s::text[],
                         %(details)s::text[])
        AS i(municipality_id, series_id, time, result, flags, origin, value, details)
)"""

_INSERTED = """
, inserted AS (
    INSERT INTO twin_observation (municipality_id, series_id, time, flags, result, origin, value, details)
    SELECT municipality_id, series_id, time, flags, result, origin, value::jsonb, nullif(details::jsonb, '{}')
    FROM incoming
    ORDER BY municipality_id, series_id, time
    ON CONFLICT DO NOTHING
    RETURNING municipality_id, series_id, time, flags, result, value
)"""

_CORRECTED = """
, corrected AS (
    UPDATE twin_observation o
    SET result = i.result, flags = i.flags | i.kept, origin = coalesce(i.origin, o.origin), value = i.value::jsonb,
        details = CASE WHEN i.details IS NULL THEN o.details ELSE nullif(i.details::jsonb, '{}') END
    FROM (
        -- What stewards and neighbours said of a value stays with it while the value stays.
        SELECT n.*, CASE WHEN old.result IS NOT DISTINCT FROM n.result AND old.value IS NOT DISTINCT FROM n.value::jsonb
                         THEN old.flags & %(sticky)s ELSE 0 END AS kept
        FROM incoming n JOIN twin_observation old USING (municipality_id, series_id, time)
    ) i
    JOIN twin_observation old USING (municipality_id, series_id, time)
    WHERE o.municipality_id = i.municipality_id AND o.series_id = i.series_id AND o.time = i.time
      AND (old.result IS DISTINCT FROM i.result OR old.value IS DISTINCT FROM i.value::jsonb
           OR old.flags <> (i.flags | i.kept)
           OR i.details IS NOT NULL AND old.details IS DISTINCT FROM nullif(i.details::jsonb, '{}'))
    RETURNING o.municipality_id, o.series_id, o.time, o.flags, o.result, o.value,
              old.flags AS old_flags, old.result AS old_result, old.origin AS old_origin, old.value AS old_value,
              old.details AS old_details
), revised AS (
    INSERT INTO twin_revision (municipality_id, series_id, time, flags, result, origin, value, details, reason)
    SELECT municipality_id, series_id, time, old_flags, old_result, old_origin, old_value, old_details, %(reason)s
    FROM corrected
)"""

_STATE = """
, state AS (
    INSERT INTO twin_state AS s
        (municipality_id, series_id, n, first_time, time, flags, result, value, recorded_at)
    SELECT DISTINCT ON (municipality_id, series_id)
           municipality_id, series_id, sum(added) OVER w, min(time) OVER w, time, flags, result, value, now()
    FROM {written} WINDOW w AS (PARTITION BY municipality_id, series_id)
    ORDER BY municipality_id, series_id, time DESC
    ON CONFLICT (municipality_id, series_id) DO UPDATE SET
        n = s.n + excluded.n,
        first_time = least(s.first_time, excluded.first_time),
        time = greatest(s.time, excluded.time),
        flags = CASE WHEN excluded.time >= s.time THEN excluded.flags ELSE s.flags END,
        result = CASE WHEN excluded.time >= s.time THEN excluded.result ELSE s.result END,
        value = CASE WHEN excluded.time >= s.time THEN excluded.value ELSE s.value END,
        recorded_at = CASE WHEN excluded.time >= s.time THEN excluded.recorded_at ELSE s.recorded_at END
)"""

_EFFECTS = (
    """
, written AS ({written})"""
    + _STATE.format(written="written")
    + f"""
, marked AS (
    {MARK.format(rows="written")}
)"""
    + """
, changed AS (
    INSERT INTO twin_change (series_ids, times, results, flags, vals)
    SELECT array_agg(series_id), array_agg(time), array_agg(result), array_agg(flags),
           CASE WHEN bool_or(value IS NOT NULL) THEN jsonb_agg(value) END
    FROM (SELECT * FROM written ORDER BY series_id, time) AS ordered
    WHERE %(publish)s HAVING count(*) > 0
)
SELECT count(*) FILTER (WHERE added = 1), count(*) FILTER (WHERE added = 0) FROM written
"""
)

_ADDED = "SELECT municipality_id, series_id, time, flags, result, value, 1 AS added FROM inserted"
_CHANGED = (
    _ADDED + " UNION ALL SELECT municipality_id, series_id, time, flags, result, value, 0 FROM corrected"
)

KEEP: Final = _INCOMING + _INSERTED + _EFFECTS.format(written=_ADDED)
"""A row whose series and time are taken changes nothing."""
CORRECT: Final = _INCOMING + _CORRECTED + _INSERTED + _EFFECTS.format(written=_CHANGED)
"""Where a series has another value at that time, the old one goes to the revisions."""

FRESH: Final = (
    _INCOMING
    + """
, new AS MATERIALIZED (
    SELECT municipality_id, series_id, time, flags, result, origin, value::jsonb,
           nullif(details::jsonb, '{}') AS details, 1 AS added
    FROM incoming ORDER BY municipality_id, series_id, time
), inserted AS (
    INSERT INTO twin_observation (municipality_id, series_id, time, flags, result, origin, value, details)
    SELECT municipality_id, series_id, time, flags, result, origin, value, details FROM new
)"""
    + _STATE.format(written="new")
    + f"""
, marked AS (
    {MARK.format(rows="new")}
), changed AS (
    INSERT INTO twin_change (series_ids, times, results, flags, vals)
    SELECT %(series)s, %(time)s, %(result)s, %(flags)s,
           (SELECT CASE WHEN bool_or(value IS NOT NULL) THEN jsonb_agg(value) END FROM new)
    WHERE %(publish)s
)
SELECT count(*), 0 FROM incoming
"""
)
"""All rows are new, as nearly always: a third less work. One that is there already fails the statement as a whole."""
