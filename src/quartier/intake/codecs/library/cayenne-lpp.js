/* quartier-codec
{
  "vendor": "myDevices",
  "model": "Cayenne LPP",
  "title": {"de": "Selbstgebautes mit Cayenne LPP", "en": "Self-made devices with Cayenne LPP"},
  "source": "https://docs.mydevices.com/docs/lorawan/cayenne-lpp",
  "example": {"port": 1, "payload": "03670110056700ff"},
  "fields": {
    "temperature_*": {"property": "air_temperature", "unit": "Cel"},
    "relative_humidity_*": {"property": "relative_humidity", "unit": "%"},
    "barometric_pressure_*": {"property": "air_pressure", "unit": "hPa"},
    "voltage_*": {"property": "battery_voltage", "unit": "V"},
    "percentage_*": {"property": null, "unit": "%"},
    "distance_*": {"property": "distance", "unit": "m"},
    "direction_*": {"property": "wind_direction", "unit": "deg"},
    "digital_in_*": {"property": null, "unit": "1"},
    "digital_out_*": {"property": null, "unit": "1"},
    "analog_in_*": {"property": null, "unit": "1"},
    "analog_out_*": {"property": null, "unit": "1"},
    "generic_*": {"property": null, "unit": "1"},
    "luminosity_*": {"property": null, "unit": "lx"},
    "presence_*": {"property": null, "unit": "1"},
    "accelerometer_x_*": {"property": null, "unit": "[g]"},
    "accelerometer_y_*": {"property": null, "unit": "[g]"},
    "accelerometer_z_*": {"property": null, "unit": "[g]"},
    "gyrometer_x_*": {"property": null, "unit": "deg/s"},
    "gyrometer_y_*": {"property": null, "unit": "deg/s"},
    "gyrometer_z_*": {"property": null, "unit": "deg/s"},
    "latitude_*": {"property": null, "unit": "deg"},
    "longitude_*": {"property": null, "unit": "deg"},
    "gps_altitude_*": {"property": null, "unit": "m"},
    "current_*": {"property": null, "unit": "A"},
    "frequency_*": {"property": null, "unit": "Hz"},
    "altitude_*": {"property": null, "unit": "m"},
    "concentration_*": {"property": null, "unit": "[ppm]"},
    "power_*": {"property": null, "unit": "W"},
    "energy_*": {"property": null, "unit": "kW.h"},
    "unix_time_*": {"property": null, "unit": "s"},
    "switch_*": {"property": null, "unit": "1"}
  }
}
*/

// The message is a row of channel (1 byte), type (1 byte) and value, big-endian. Field names are the type's name and
// the channel. Per type: the parts of its value, each with name, bytes, parts of the unit and whether it is signed.
// Types up to 3, 101 to 104, 113, 115, 134 and 136 are those of myDevices, the others the common extensions of it.
var TYPES = {
  0: [["digital_in", 1, 1, false]],
  1: [["digital_out", 1, 1, false]],
  2: [["analog_in", 2, 100, true]],
  3: [["analog_out", 2, 100, true]],
  100: [["generic", 4, 1, false]],
  101: [["luminosity", 2, 1, false]],
  102: [["presence", 1, 1, false]],
  103: [["temperature", 2, 10, true]],
  104: [["relative_humidity", 1, 2, false]],
  113: [
    ["accelerometer_x", 2, 1000, true],
    ["accelerometer_y", 2, 1000, true],
    ["accelerometer_z", 2, 1000, true],
  ],
  115: [["barometric_pressure", 2, 10, false]],
  116: [["voltage", 2, 100, false]],
  117: [["current", 2, 1000, false]],
  118: [["frequency", 4, 1, false]],
  120: [["percentage", 1, 1, false]],
  121: [["altitude", 2, 1, true]],
  125: [["concentration", 2, 1, false]],
  128: [["power", 2, 1, false]],
  130: [["distance", 4, 1000, false]],
  131: [["energy", 4, 1000, false]],
  132: [["direction", 2, 1, false]],
  133: [["unix_time", 4, 1, false]],
  134: [
    ["gyrometer_x", 2, 100, true],
    ["gyrometer_y", 2, 100, true],
    ["gyrometer_z", 2, 100, true],
  ],
  136: [
    ["latitude", 3, 10000, true],
    ["longitude", 3, 10000, true],
    ["gps_altitude", 3, 100, true],
  ],
  142: [["switch", 1, 1, false]],
};

function integer(bytes, at, size, signed) {
  var value = 0;
  for (var i = 0; i < size; i += 1) {
    value = value * 256 + bytes[at + i];
  }
  var range = Math.pow(256, size);
  return signed && value >= range / 2 ? value - range : value;
}

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = {};
  var warnings = [];
  var at = 0;
  while (at < bytes.length) {
    var channel = bytes[at];
    if (at + 1 === bytes.length) {
      warnings.push("channel " + channel + " is cut off");
      break;
    }
    var parts = TYPES[bytes[at + 1]];
    if (parts === undefined) {
      warnings.push("stopped at the unknown type " + bytes[at + 1] + " of channel " + channel);
      break;
    }
    at += 2;
    var size = parts.length * parts[0][1];
    if (at + size > bytes.length) {
      warnings.push("channel " + channel + " is cut off");
      break;
    }
    for (var i = 0; i < parts.length; i += 1) {
      data[parts[i][0] + "_" + channel] = integer(bytes, at, parts[i][1], parts[i][3]) / parts[i][2];
      at += parts[i][1];
    }
  }
  if (bytes.length === 0) {
    return { errors: ["the message is empty"] };
  }
  if (Object.keys(data).length === 0 && warnings.length > 0) {
    return { errors: warnings };
  }
  return { data: data, warnings: warnings };
}
