-- The store of observations. Plain PostgreSQL 15 or newer, no extension.
-- Municipality comes first in every key, so that a cluster can be divided by city.

CREATE TABLE twin_observation (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    time            timestamptz NOT NULL,          -- phenomenon time
    flags           integer NOT NULL DEFAULT 0,    -- quartier.twin.flags.Flag
    result          double precision,              -- numbers and booleans (0, 1)
    origin          bigint,                        -- position in the inbox; NULL: computed or imported
    value           jsonb,                         -- results that are no number
    PRIMARY KEY (municipality_id, series_id, time)
) PARTITION BY RANGE (time);

-- What a correction replaced. A correction never destroys.
CREATE TABLE twin_revision (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    time            timestamptz NOT NULL,
    revised_at      timestamptz NOT NULL DEFAULT now(),
    flags           integer NOT NULL,
    result          double precision,
    origin          bigint,
    value           jsonb,
    reason          text NOT NULL
);
CREATE INDEX twin_revision_series ON twin_revision (municipality_id, series_id, time);

-- Counters and newest observation per series, kept in the transaction that writes the observations.
CREATE TABLE twin_state (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    n               bigint NOT NULL,
    first_time      timestamptz NOT NULL,
    time            timestamptz NOT NULL,
    flags           integer NOT NULL,
    result          double precision,
    value           jsonb,
    recorded_at     timestamptz NOT NULL,
    PRIMARY KEY (municipality_id, series_id)
) WITH (fillfactor = 50);

-- Roll-ups. Flagged values are counted, but do not enter the statistics.
CREATE TABLE twin_rollup_15min (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    bucket          timestamptz NOT NULL,          -- start of the bucket
    n               integer NOT NULL,              -- values that count
    n_flagged       integer NOT NULL,
    sum             double precision,
    sum_of_squares  double precision,
    min             double precision,
    max             double precision,
    first           double precision,
    last            double precision,
    PRIMARY KEY (municipality_id, series_id, bucket)
);
CREATE TABLE twin_rollup_1h (LIKE twin_rollup_15min INCLUDING ALL);
-- Days are civil days of the municipality, because a day's maximum is what people say.
CREATE TABLE twin_rollup_1d (LIKE twin_rollup_15min INCLUDING ALL);

-- Hours whose roll-ups are out of date. Rows are only added and taken away, never changed, and have no key: a batch
-- that commits while the hour is being rolled up leaves its own row behind and cannot be forgotten.
CREATE TABLE twin_rollup_mark (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    hour            timestamptz NOT NULL
);

-- Committed batches that still have to be published. Published in order of (xid, position), and only up to the oldest
-- running transaction, so that no batch that commits late is passed over.
CREATE TABLE twin_change (
    position  bigint GENERATED ALWAYS AS IDENTITY,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    series_ids integer[] NOT NULL,
    times     timestamptz[] NOT NULL,
    results   double precision[] NOT NULL,
    flags     integer[] NOT NULL,
    vals      jsonb,                               -- array like the others, or NULL where all are numbers
    PRIMARY KEY (xid, position)
);

CREATE INDEX twin_thing_place ON twin_thing USING gist (point(lon, lat));
