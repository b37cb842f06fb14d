-- The frame log by day, so that retention drops days instead of deleting rows. Rows move, ids go on.
ALTER TABLE lorawan_frame RENAME TO lorawan_frame_whole;
ALTER TABLE lorawan_frame_whole DROP CONSTRAINT lorawan_frame_pkey;
DROP INDEX lora_frame_device, lora_frame_municipality;
ALTER TABLE lorawan_frame_whole ALTER COLUMN id DROP IDENTITY;
CREATE SEQUENCE lorawan_frame_id_seq;

-- No foreign key to the city: each day would lock all cities when it is made or dropped, and each line would be checked.
-- Whoever removes a city does so by Django, which removes its lines.
CREATE TABLE lorawan_frame (
    id              bigint NOT NULL DEFAULT nextval('lorawan_frame_id_seq'),
    at              timestamptz NOT NULL,
    device_id       bigint,
    dev_eui         varchar(16) NOT NULL,
    dev_addr        bigint,
    direction       varchar(4) NOT NULL,
    kind            varchar(24) NOT NULL,
    outcome         varchar(24) NOT NULL,
    counter         bigint,
    port            smallint,
    size            smallint NOT NULL,
    data_rate       smallint NOT NULL,
    frequency_hz    bigint NOT NULL,
    gateways        jsonb NOT NULL,
    detail          jsonb NOT NULL,
    municipality_id smallint
) PARTITION BY RANGE (at);
ALTER SEQUENCE lorawan_frame_id_seq OWNED BY lorawan_frame.id;

DO $$
DECLARE
    day date;
BEGIN
    FOR day IN SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM lorawan_frame_whole LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF lorawan_frame FOR VALUES FROM (%L) TO (%L)',
                       'lorawan_frame_' || to_char(day, 'YYYY_MM_DD'),
                       day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END
$$;

INSERT INTO lorawan_frame SELECT id, at, device_id, dev_eui, dev_addr, direction, kind, outcome, counter, port, size,
       data_rate, frequency_hz, gateways, detail, municipality_id FROM lorawan_frame_whole;
SELECT setval('lorawan_frame_id_seq', coalesce(max(id), 0) + 1, false) FROM lorawan_frame_whole;
DROP TABLE lorawan_frame_whole;

ALTER TABLE lorawan_frame ADD CONSTRAINT lorawan_frame_pkey PRIMARY KEY (id, at);
CREATE INDEX lora_frame_device ON lorawan_frame (device_id, at DESC);
CREATE INDEX lora_frame_municipality ON lorawan_frame (municipality_id, at DESC);
