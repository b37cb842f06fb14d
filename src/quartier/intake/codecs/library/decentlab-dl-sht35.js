/* quartier-codec
{
  "vendor": "Decentlab",
  "model": "DL-SHT35",
  "title": {"de": "Lufttemperatur und Luftfeuchte", "en": "Air temperature and humidity"},
  "source": "https://www.decentlab.com/products/air-temperature-and-humidity-sensor-with-radiation-shield-for-lorawan",
  "example": {"port": 1, "payload": "0254a60003758a61b80c17"},
  "fields": {
    "protocol_version": {"property": null, "unit": "1"},
    "device_id": {"property": null, "unit": "1"},
    "air_temperature": {"property": "air_temperature", "unit": "Cel"},
    "air_humidity": {"property": "relative_humidity", "unit": "%"},
    "battery_voltage": {"property": "battery_voltage", "unit": "V"}
  }
}
*/

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
  var size = 5 + (flags & 1 ? 4 : 0) + (flags & 2 ? 2 : 0);
  if (bytes.length < size) {
    return { errors: ["the message ends after " + bytes.length + " of " + size + " bytes"] };
  }
  var data = { protocol_version: bytes[0], device_id: word(1) };
  var at = 5;
  if (flags & 1) {
    // Sensirion SHT3x data sheet, section 4.13.
    data.air_temperature = (175 * word(at)) / 65535 - 45;
    data.air_humidity = (100 * word(at + 2)) / 65535;
    at += 4;
  }
  if (flags & 2) {
    data.battery_voltage = word(at) / 1000;
  }
  return { data: data };
}
