-- What Django cannot say: boxes of geometries, texts computed from the twin, and rows that follow the twin's slow tables.

-- The box around all positions of a GeoJSON geometry (or Feature, or collection), longitude first. NULL where there are
-- none, such as for a text in another encoding.
CREATE FUNCTION sensorthings_box(geometry jsonb) RETURNS box LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT box(point(max((p->>0)::double precision), max((p->>1)::double precision)),
               point(min((p->>0)::double precision), min((p->>1)::double precision)))
    FROM jsonb_path_query(geometry, 'strict $.**.coordinates.** ? (@.type() == "array" && @[0].type() == "number"'
                                    ' && @[1].type() == "number")', '{}', true) AS p
    HAVING count(*) > 0
$$;

ALTER TABLE sensorthings_location
    ADD COLUMN place box GENERATED ALWAYS AS (sensorthings_box(location)) STORED;
CREATE INDEX sensorthings_location_place ON sensorthings_location USING gist (place);
ALTER TABLE sensorthings_featureofinterest
    ADD COLUMN place box GENERATED ALWAYS AS (sensorthings_box(feature)) STORED;
CREATE INDEX sensorthings_feature_place ON sensorthings_featureofinterest USING gist (place);

-- UCUM as SensorThings wants it: with a name and a symbol.
CREATE FUNCTION sensorthings_unit(ucum text) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object('name', ucum, 'symbol', coalesce((jsonb_build_object(
        'Cel', '°C', '[degF]', '°F', '1', '', '[ppth]', '‰', '[ppm]', 'ppm', '[ppb]', 'ppb', 'um', 'µm', 'm2', 'm²',
        'L', 'l', 'mL', 'ml', 'm3', 'm³', '[kn_i]', 'kn', 'L/s', 'l/s', 'm3/s', 'm³/s', 'm3/h', 'm³/h', 'deg', '°',
        'W/m2', 'W/m²', 'g/m3', 'g/m³', 'mg/m3', 'mg/m³', 'ug/m3', 'µg/m³', 'kg/m3', 'kg/m³',
        'mg/L', 'mg/l', 'Ohm', 'Ω', 'kOhm', 'kΩ', 'W.h', 'Wh', 'kW.h', 'kWh', 'uS/cm', 'µS/cm', '/s', '1/s',
        '/min', '1/min', '/h', '1/h', 'dB[SPL]', 'dB', '[pH]', ''))->>ucum, ucum),
        'definition', 'http://www.opengis.net/def/uom/UCUM/0/' || ucum)
$$;

-- Quality flags (quartier.twin.flags.Flag) as words, beside what the sender said himself.
CREATE FUNCTION sensorthings_quality(flags integer, posted jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN flags = 0 THEN posted ELSE jsonb_strip_nulls(jsonb_build_object(
        'flags', array_to_json(array_remove(ARRAY[
            CASE WHEN flags & 1 <> 0 THEN 'range' END, CASE WHEN flags & 2 <> 0 THEN 'persistence' END,
            CASE WHEN flags & 4 <> 0 THEN 'spike' END, CASE WHEN flags & 8 <> 0 THEN 'spatial' END,
            CASE WHEN flags & 16 <> 0 THEN 'time replaced' END, CASE WHEN flags & 64 <> 0 THEN 'confirmed' END,
            CASE WHEN flags & 128 <> 0 THEN 'dismissed' END], NULL)),
        'plausible', flags & 79 = 0 OR flags & 128 <> 0,
        'reported', posted)) END
$$;

-- The FeatureOfInterest of an observation that names none: that of the place where the thing was.
CREATE FUNCTION sensorthings_feature(thing bigint, at timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT f.id FROM sensorthings_historicallocation h
    JOIN sensorthings_historicallocationlocation hl ON hl.historical_location_id = h.id
    JOIN sensorthings_featureofinterest f ON f.location_id = hl.location_id
    WHERE h.thing_id = thing
    -- The newest place that is not later; before the first one, the first one.
    ORDER BY h.time > at, CASE WHEN h.time > at THEN h.time - at ELSE at - h.time END, f.id LIMIT 1
$$;

-- A thing with coordinates has a Location. Who posts a Location writes the thing's coordinates himself and says
-- SET LOCAL quartier.location_posted = 'yes', so that there are not two.
CREATE FUNCTION sensorthings_thing_moved() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place jsonb;
    location bigint;
    history bigint;
    moved boolean := true;
BEGIN
    IF NEW.lon IS NULL OR NEW.lat IS NULL OR current_setting('quartier.location_posted', true) = 'yes' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        moved := OLD.lon IS DISTINCT FROM NEW.lon OR OLD.lat IS DISTINCT FROM NEW.lat
            OR OLD.altitude_m IS DISTINCT FROM NEW.altitude_m;
        IF NOT moved THEN
            UPDATE sensorthings_location SET name = NEW.name, description = trim(NEW.street || ' ' || NEW.house_number)
            WHERE thing_id = NEW.id;
            RETURN NULL;
        END IF;
        UPDATE sensorthings_location SET thing_id = NULL WHERE thing_id = NEW.id;
        DELETE FROM sensorthings_thinglocation WHERE thing_id = NEW.id;
    END IF;
    place := jsonb_build_object('type', 'Point', 'coordinates',
        CASE WHEN NEW.altitude_m IS NULL THEN jsonb_build_array(NEW.lon, NEW.lat)
             ELSE jsonb_build_array(NEW.lon, NEW.lat, NEW.altitude_m) END);
    INSERT INTO sensorthings_location (municipality_id, name, description, encoding_type, location, thing_id, created_at)
    VALUES (NEW.municipality_id, NEW.name, trim(NEW.street || ' ' || NEW.house_number), 'application/geo+json', place,
            NEW.id, now()) RETURNING id INTO location;
    INSERT INTO sensorthings_thinglocation (thing_id, location_id) VALUES (NEW.id, location);
    INSERT INTO sensorthings_historicallocation (thing_id, time)
    VALUES (NEW.id, CASE WHEN TG_OP = 'INSERT' THEN NEW.created_at ELSE now() END) RETURNING id INTO history;
    INSERT INTO sensorthings_historicallocationlocation (historical_location_id, location_id)
    VALUES (history, location);
    RETURN NULL;
END $$;
CREATE TRIGGER sensorthings_thing_moved
    AFTER INSERT OR UPDATE OF lon, lat, altitude_m, name, street, house_number ON twin_thing
    FOR EACH ROW EXECUTE FUNCTION sensorthings_thing_moved();

-- A Location has a FeatureOfInterest, which follows it.
CREATE FUNCTION sensorthings_location_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sensorthings_featureofinterest
        (municipality_id, name, description, encoding_type, feature, properties, location_id)
    VALUES (NEW.municipality_id, NEW.name, NEW.description, NEW.encoding_type, NEW.location, NEW.properties, NEW.id)
    ON CONFLICT (location_id) DO UPDATE SET name = excluded.name, description = excluded.description,
        encoding_type = excluded.encoding_type, feature = excluded.feature, properties = excluded.properties;
    RETURN NULL;
END $$;
CREATE TRIGGER sensorthings_location_changed
    AFTER INSERT OR UPDATE OF name, description, encoding_type, location, properties ON sensorthings_location
    FOR EACH ROW EXECUTE FUNCTION sensorthings_location_changed();

-- A device is a Sensor, and so is what computes a series.
CREATE FUNCTION sensorthings_device_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sensorthings_sensor (municipality_id, device_id, derivation, name, description, encoding_type)
    VALUES (NEW.municipality_id, NEW.id, '', '', '', '') ON CONFLICT (device_id) DO UPDATE
        SET municipality_id = excluded.municipality_id;
    RETURN NULL;
END $$;
CREATE TRIGGER sensorthings_device_added AFTER INSERT OR UPDATE OF municipality_id ON twin_device
    FOR EACH ROW EXECUTE FUNCTION sensorthings_device_added();

CREATE FUNCTION sensorthings_series_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.derivation <> '' OR NEW.device_id IS NULL THEN
        -- A series of neither a device nor a derivation was imported: "imported" is then how it came.
        INSERT INTO sensorthings_sensor (municipality_id, derivation, name, description, encoding_type)
        VALUES (NEW.municipality_id, coalesce(nullif(NEW.derivation, ''), 'imported'), '', '', '')
        ON CONFLICT (municipality_id, derivation) WHERE derivation <> '' DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER sensorthings_series_added AFTER INSERT OR UPDATE OF derivation, device_id ON twin_series
    FOR EACH ROW EXECUTE FUNCTION sensorthings_series_added();

-- What is there already.
WITH located AS (
    INSERT INTO sensorthings_location (municipality_id, name, description, encoding_type, location, thing_id, created_at)
    SELECT municipality_id, name, trim(street || ' ' || house_number), 'application/geo+json',
           jsonb_build_object('type', 'Point', 'coordinates', CASE WHEN altitude_m IS NULL
               THEN jsonb_build_array(lon, lat) ELSE jsonb_build_array(lon, lat, altitude_m) END), id, now()
    FROM twin_thing WHERE lon IS NOT NULL AND lat IS NOT NULL RETURNING id, thing_id
), placed AS (
    INSERT INTO sensorthings_thinglocation (thing_id, location_id) SELECT thing_id, id FROM located
)
INSERT INTO sensorthings_historicallocation (thing_id, time)
SELECT l.thing_id, t.created_at FROM located l JOIN twin_thing t ON t.id = l.thing_id;
INSERT INTO sensorthings_historicallocationlocation (historical_location_id, location_id)
SELECT h.id, l.id FROM sensorthings_historicallocation h JOIN sensorthings_location l ON l.thing_id = h.thing_id;
INSERT INTO sensorthings_sensor (municipality_id, device_id, derivation, name, description, encoding_type)
SELECT municipality_id, id, '', '', '', '' FROM twin_device;
INSERT INTO sensorthings_sensor (municipality_id, derivation, name, description, encoding_type)
SELECT DISTINCT municipality_id, coalesce(nullif(derivation, ''), 'imported'), '', '', ''
FROM twin_series WHERE derivation <> '' OR device_id IS NULL;
