/* quartier-codec
{
  "vendor": "Milesight",
  "model": "EM300-TH",
  "title": {"de": "Lufttemperatur und Luftfeuchte", "en": "Air temperature and humidity"},
  "source": "Milesight EM300 series user guide, chapter Device Payload",
  "example": {"port": 85, "payload": "01756403671001046871"},
  "fields": {
    "protocol_version": {"property": null, "unit": "1"},
    "battery_level": {"property": "battery_level", "unit": "%"},
    "temperature": {"property": "air_temperature", "unit": "Cel"},
    "humidity": {"property": "relative_humidity", "unit": "%"}
  }
}
*/

// The message is a row of channel (1 byte), type (1 byte) and value, whose length the first two tell; little-endian.
// What carries no measurement is skipped: versions, class and serial number, which come after each join.
var SKIPPED = { "ff09": 2, "ff0a": 2, "ff0b": 1, "ff0f": 1, "ff16": 8 };
var HISTORY_SIZE = 7;

function hex(byte) {
  return (byte < 16 ? "0" : "") + byte.toString(16);
}

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = {};
  var warnings = [];
  var stored = 0;
  var at = 0;
  while (at < bytes.length) {
    var kind = hex(bytes[at]) + hex(bytes[at + 1] || 0);
    var left = bytes.length - at - 2;
    at += 2;
    if (left <= 0) {
      warnings.push("the last channel is cut off");
      break;
    }
    if (kind === "0175") {
      data.battery_level = bytes[at];
      at += 1;
    } else if (kind === "0367" && left >= 2) {
      var raw = bytes[at] + bytes[at + 1] * 256;
      data.temperature = (raw > 32767 ? raw - 65536 : raw) / 10;
      at += 2;
    } else if (kind === "0468") {
      data.humidity = bytes[at] / 2;
      at += 1;
    } else if (kind === "ff01") {
      data.protocol_version = bytes[at];
      at += 1;
    } else if (kind === "20ce" && left >= HISTORY_SIZE) {
      stored += 1;
      at += HISTORY_SIZE;
    } else if (SKIPPED[kind] !== undefined && left >= SKIPPED[kind]) {
      at += SKIPPED[kind];
    } else {
      warnings.push("stopped at the unknown or cut off channel " + kind);
      break;
    }
  }
  if (stored > 0) {
    warnings.push(stored + " stored measurements of earlier times were not read");
  }
  if (bytes.length === 0) {
    return { errors: ["the message is empty"] };
  }
  if (Object.keys(data).length === 0 && warnings.length > 0) {
    return { errors: warnings };
  }
  return { data: data, warnings: warnings };
}

// The one setting that is wanted in practice: how often the sensor reports.
function encodeDownlink(input) {
  var interval = input.data.reporting_interval_s;
  if (typeof interval !== "number" || interval % 1 !== 0 || interval < 1 || interval > 65535) {
    return { errors: ["reporting_interval_s must be a whole number from 1 to 65535"] };
  }
  return { bytes: [0xff, 0x03, interval & 255, interval >> 8], fPort: 85 };
}

function decodeDownlink(input) {
  var bytes = input.bytes;
  if (bytes.length !== 4 || bytes[0] !== 0xff || bytes[1] !== 0x03) {
    return { errors: ["not the setting of the reporting interval"] };
  }
  return { data: { reporting_interval_s: bytes[2] + bytes[3] * 256 } };
}
