-- What was made or changed, for those who follow it: written in the transaction that does it, whoever does it, and taken
-- away by whoever publishes. Columns are those that changed; NULL says that the row is new.
CREATE TABLE sensorthings_change (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity text NOT NULL,
    id bigint NOT NULL,
    columns text[]
);

-- Per statement, not per row. Arguments: the entity type, and which column is its number.
CREATE FUNCTION sensorthings_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sensorthings_change (entity, id)
    SELECT TG_ARGV[0], (to_jsonb(n)->>TG_ARGV[1])::bigint FROM new_rows n;
    RETURN NULL;
END $$;

CREATE FUNCTION sensorthings_altered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sensorthings_change (entity, id, columns)
    SELECT TG_ARGV[0], (n.j->>TG_ARGV[1])::bigint, d.columns
    FROM (SELECT to_jsonb(r) AS j FROM new_rows r) n
    JOIN (SELECT to_jsonb(r) AS j FROM old_rows r) o ON o.j->>TG_ARGV[1] = n.j->>TG_ARGV[1]
    CROSS JOIN LATERAL (
        SELECT array_agg(e.key) AS columns FROM jsonb_each(n.j) e
        WHERE e.value IS DISTINCT FROM o.j->e.key AND e.key <> 'updated_at'
    ) d
    WHERE d.columns IS NOT NULL;
    RETURN NULL;
END $$;
