ALTER TABLE twin_rollup_mark RENAME TO twin_rollup_mark_by_hour;
CREATE TABLE twin_rollup_mark (
    municipality_id smallint NOT NULL,
    series_id       integer NOT NULL,
    hour            timestamptz NOT NULL
);
INSERT INTO twin_rollup_mark
SELECT DISTINCT municipality_id, series_id, hour FROM twin_rollup_mark_by_hour, unnest(series_ids) AS series_id;
DROP TABLE twin_rollup_mark_by_hour;
ALTER TABLE twin_change ALTER series_ids SET STORAGE EXTENDED, ALTER times SET STORAGE EXTENDED,
    ALTER results SET STORAGE EXTENDED, ALTER flags SET STORAGE EXTENDED;
ALTER TABLE twin_device RESET (fillfactor);
ALTER TABLE twin_rollup_1d RESET (fillfactor);
ALTER TABLE twin_rollup_1h RESET (fillfactor);
ALTER TABLE twin_rollup_15min RESET (fillfactor);
