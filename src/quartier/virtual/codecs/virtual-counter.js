// Zählgerät: marker 0x71, pedestrians and bicycles in the interval (uint16 each), battery (uint8, %).
function decodeUplink(input) {
  var b = input.bytes;
  if (b.length !== 6 || b[0] !== 0x71) {
    return { errors: ["not a Zählgerät frame"] };
  }
  return {
    data: {
      pedestrians: (b[1] << 8) | b[2],
      bicycles: (b[3] << 8) | b[4],
      battery: b[5]
    }
  };
}
