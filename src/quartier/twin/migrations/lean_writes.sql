-- A batch of readings leaves one row for each hour that it wrote into, instead of one for each series.
ALTER TABLE twin_rollup_mark RENAME TO twin_rollup_mark_by_series;
CREATE TABLE twin_rollup_mark (
    municipality_id smallint NOT NULL,
    hour            timestamptz NOT NULL,
    series_ids      integer[] NOT NULL
);
INSERT INTO twin_rollup_mark
SELECT municipality_id, hour, array_agg(DISTINCT series_id) FROM twin_rollup_mark_by_series GROUP BY 1, 2;
DROP TABLE twin_rollup_mark_by_series;

-- What is deleted seconds later is not worth compressing.
ALTER TABLE twin_rollup_mark ALTER series_ids SET STORAGE EXTERNAL;
ALTER TABLE twin_change ALTER series_ids SET STORAGE EXTERNAL, ALTER times SET STORAGE EXTERNAL,
    ALTER results SET STORAGE EXTERNAL, ALTER flags SET STORAGE EXTERNAL;

-- Rows that change with every reading get room to change within their page, so that no index has to follow.
ALTER TABLE twin_device SET (fillfactor = 50);
ALTER TABLE twin_rollup_1d SET (fillfactor = 50);
ALTER TABLE twin_rollup_1h SET (fillfactor = 70);
ALTER TABLE twin_rollup_15min SET (fillfactor = 80);
