/* quartier-codec
{
  "vendor": "Decentlab",
  "model": "DL-BLG",
  "title": {"de": "Schwarzkugelthermometer", "en": "Black globe thermometer"},
  "source": "https://www.decentlab.com/black-globe-temperature-sensor-for-lorawan",
  "example": {"port": 1, "payload": "0230c50003a40c00810c60"},
  "fields": {
    "protocol_version": {"property": null, "unit": "1"},
    "device_id": {"property": null, "unit": "1"},
    "voltage_ratio": {"property": null, "unit": "1"},
    "thermistor_resistance": {"property": null, "unit": "Ohm"},
    "temperature": {"property": "black_globe_temperature", "unit": "Cel"},
    "battery_voltage": {"property": "battery_voltage", "unit": "V"}
  }
}
*/

// Steinhart and Hart's equation for the thermistor in the globe: 1/T = A + B ln R + C (ln R)^3, T in kelvin, R in ohm.
var A = 0.0008271111;
var B = 0.000208802;
var C = 0.000000080592;

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
  var warnings = [];
  var at = 5;
  if (flags & 1) {
    // A 24-bit converter, low word first; the thermistor lies in series with 41 kOhm, 1 kOhm across the input.
    var ratio = ((word(at) + word(at + 2) * 65536) / 8388608 - 1) / 2;
    var resistance = 1000 / ratio - 41000;
    data.voltage_ratio = ratio;
    if (resistance > 0 && isFinite(resistance)) {
      var logarithm = Math.log(resistance);
      data.thermistor_resistance = resistance;
      data.temperature = 1 / (A + B * logarithm + C * Math.pow(logarithm, 3)) - 273.15;
    } else {
      warnings.push("no temperature: the thermistor is not connected or broken");
    }
    at += 4;
  }
  if (flags & 2) {
    data.battery_voltage = word(at) / 1000;
  }
  return { data: data, warnings: warnings };
}
