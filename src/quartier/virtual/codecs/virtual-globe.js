// Schwarzkugel: marker 0x13, globe temperature (int16, 0.01 °C) and battery (uint16, mV), little-endian.
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 5 || b[0] !== 0x13) {
    return { errors: ["not a Schwarzkugel frame"] };
  }
  return {
    data: {
      globe_temperature: (((b[2] << 8) | b[1]) << 16 >> 16) / 100,
      battery: ((b[4] << 8) | b[3]) / 1000
    }
  };
}
