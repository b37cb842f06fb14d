/* quartier-codec
{
  "vendor": "Decentlab",
  "model": "DL-ATM41",
  "title": {"de": "Wetterstation (ATMOS 41, erste Generation)", "en": "Weather station (ATMOS 41, first generation)"},
  "source": "https://www.decentlab.com/products/eleven-parameter-weather-station-for-lorawan",
  "example": {
    "port": 1,
    "payload": "02035a0003800a8000800080008009812b8014810880b4a57c820c810980027fe88056800880040bf5"
  },
  "fields": {
    "protocol_version": {"property": null, "unit": "1"},
    "device_id": {"property": null, "unit": "1"},
    "solar_radiation": {"property": "solar_irradiance", "unit": "W/m2"},
    "precipitation": {"property": "precipitation", "unit": "mm"},
    "lightning_strike_count": {"property": "lightning_strikes", "unit": "1"},
    "lightning_average_distance": {"property": "lightning_distance", "unit": "km"},
    "wind_speed": {"property": "wind_speed", "unit": "m/s"},
    "wind_direction": {"property": "wind_direction", "unit": "deg"},
    "maximum_wind_speed": {"property": "wind_gust", "unit": "m/s"},
    "air_temperature": {"property": "air_temperature", "unit": "Cel"},
    "vapor_pressure": {"property": "vapour_pressure", "unit": "kPa"},
    "atmospheric_pressure": {"property": "air_pressure", "unit": "kPa"},
    "relative_humidity": {"property": "relative_humidity", "unit": "%"},
    "sensor_temperature_internal": {"property": null, "unit": "Cel"},
    "x_orientation_angle": {"property": null, "unit": "deg"},
    "y_orientation_angle": {"property": null, "unit": "deg"},
    "compass_heading": {"property": null, "unit": "deg"},
    "north_wind_speed": {"property": null, "unit": "m/s"},
    "east_wind_speed": {"property": null, "unit": "m/s"},
    "battery_voltage": {"property": "battery_voltage", "unit": "V"}
  }
}
*/

// The order is that of the words in the message. Each word carries the value plus 32768, in the given part of its unit.
// Precipitation and lightning are those since the previous message.
var MEASURED = [
  ["solar_radiation", 1],
  ["precipitation", 1000],
  ["lightning_strike_count", 1],
  ["lightning_average_distance", 1],
  ["wind_speed", 100],
  ["wind_direction", 10],
  ["maximum_wind_speed", 100],
  ["air_temperature", 10],
  ["vapor_pressure", 100],
  ["atmospheric_pressure", 100],
  ["relative_humidity", 10],
  ["sensor_temperature_internal", 10],
  ["x_orientation_angle", 10],
  ["y_orientation_angle", 10],
  ["compass_heading", 1],
  ["north_wind_speed", 100],
  ["east_wind_speed", 100],
];

// Decentlab's frame, version 2: version (1 byte), device id (2), flags (2: bit n tells that group n follows), then
// the groups; all numbers are big-endian 16-bit words.
function decodeUplink(input) {
  var bytes = input.bytes;
  if (bytes.length < 5 || bytes[0] !== 2) {
    return { errors: ["not a Decentlab message of protocol version 2"] };
  }
  function word(at) {
    return bytes[at] * 256 + bytes[at + 1];
  }
  var flags = word(3);
  var size = 5 + (flags & 1 ? 2 * MEASURED.length : 0) + (flags & 2 ? 2 : 0);
  if (bytes.length < size) {
    return { errors: ["the message ends after " + bytes.length + " of " + size + " bytes"] };
  }
  var data = { protocol_version: bytes[0], device_id: word(1) };
  var at = 5;
  if (flags & 1) {
    for (var i = 0; i < MEASURED.length; i += 1) {
      data[MEASURED[i][0]] = (word(at) - 32768) / MEASURED[i][1];
      at += 2;
    }
  }
  if (flags & 2) {
    data.battery_voltage = word(at) / 1000;
  }
  return { data: data };
}
