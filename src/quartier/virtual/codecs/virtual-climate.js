// Klimafühler: marker 0x11, temperature (int16, 0.01 °C), humidity (uint16, 0.01 %), battery (uint16, mV).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 7 || b[0] !== 0x11) {
    return { errors: ["not a Klimafühler frame"] };
  }
  return {
    data: {
      temperature: (((b[1] << 8) | b[2]) << 16 >> 16) / 100,
      humidity: ((b[3] << 8) | b[4]) / 100,
      battery: ((b[5] << 8) | b[6]) / 1000
    }
  };
}
