/* quartier-codec
{
  "vendor": "Dragino",
  "model": "LDDS75",
  "title": {"de": "Abstand (Ultraschall)", "en": "Distance (ultrasonic)"},
  "source": "Dragino LDDS75 user manual, section Uplink Payload",
  "example": {"port": 2, "payload": "0d0a07e900000001"},
  "fields": {
    "battery_voltage": {"property": "battery_voltage", "unit": "V"},
    "distance": {"property": "distance", "unit": "mm"},
    "interrupt_flag": {"property": null, "unit": "1"},
    "probe_temperature": {"property": null, "unit": "Cel"},
    "sensor_flag": {"property": null, "unit": "1"}
  }
}
*/

// Big-endian: battery in mV (2 bytes, lower 14 bits), distance in mm (2), whether the interrupt pin sent the message
// (1), temperature of the optional DS18B20 probe in 0.1 degrees (2, signed; 0 without a probe, which is why it is not
// offered as a property), whether the ultrasonic sensor was found (1).
function decodeUplink(input) {
  var bytes = input.bytes;
  if (input.fPort !== null && input.fPort !== 2) {
    return { errors: ["measurements come on port 2, this came on port " + input.fPort] };
  }
  if (bytes.length !== 8) {
    return { errors: ["a measurement has 8 bytes, this has " + bytes.length] };
  }
  function word(at) {
    return bytes[at] * 256 + bytes[at + 1];
  }
  var data = { battery_voltage: (word(0) & 0x3fff) / 1000 };
  var warnings = [];
  var distance = word(2);
  // The firmware reports 0 where it finds no sensor and 20 mm where it cannot measure; 280 mm is the shortest it can.
  if (distance === 0 || distance === 20) {
    warnings.push("no distance: the sensor gave no valid echo");
  } else {
    data.distance = distance;
  }
  data.interrupt_flag = bytes[4];
  var temperature = word(5);
  data.probe_temperature = (temperature > 32767 ? temperature - 65536 : temperature) / 10;
  data.sensor_flag = bytes[7];
  return { data: data, warnings: warnings };
}
