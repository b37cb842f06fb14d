// Pegelsonde: marker 0x21, level (uint16, mm), water temperature (int16, 0.1 °C), battery (uint8, %).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 6 || b[0] !== 0x21) {
    return { errors: ["not a Pegelsonde frame"] };
  }
  return {
    data: {
      level: ((b[1] << 8) | b[2]) / 1000,
      water_temperature: (((b[3] << 8) | b[4]) << 16 >> 16) / 10,
      battery: b[5]
    }
  };
}
