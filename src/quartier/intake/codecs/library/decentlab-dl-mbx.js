/* quartier-codec
{
  "vendor": "Decentlab",
  "model": "DL-MBX",
  "title": {"de": "Abstand und Pegel (Ultraschall)", "en": "Distance and level (ultrasonic)"},
  "source": "https://www.decentlab.com/products/ultrasonic-distance-/-level-sensor-for-lorawan",
  "example": {"port": 1, "payload": "02012f000304d200010bb1"},
  "fields": {
    "protocol_version": {"property": null, "unit": "1"},
    "device_id": {"property": null, "unit": "1"},
    "distance": {"property": "distance", "unit": "mm"},
    "number_of_valid_samples": {"property": null, "unit": "1"},
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
    data.distance = word(at);
    data.number_of_valid_samples = word(at + 2);
    at += 4;
  }
  if (flags & 2) {
    data.battery_voltage = word(at) / 1000;
  }
  return { data: data };
}
