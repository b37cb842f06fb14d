// Bodenfeuchtesonde: marker 0x51, moisture (uint16, 0.01 %), temperature (int16, 0.01 °C), little-endian; battery (%).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 6 || b[0] !== 0x51) {
    return { errors: ["not a Bodenfeuchte frame"] };
  }
  return {
    data: {
      moisture: ((b[2] << 8) | b[1]) / 100,
      temperature: (((b[4] << 8) | b[3]) << 16 >> 16) / 100,
      battery: b[5]
    }
  };
}
